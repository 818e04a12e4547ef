"""Training: from labelled radiographs to one model file, whose card states how well the model was measured.

Begin with `cli.main` (every verb), then `run.run`: the order of the steps of `trainer fit`, through `data`, `recipes`,
`training` and `export`. Which package knows what: deploy/ARCHITECTURE.md.
"""
