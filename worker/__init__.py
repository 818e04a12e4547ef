"""What runs in the hospital: takes studies in, screens them, writes the worklist. Never imports TensorFlow or Keras.

Begin with `cli.main` (every verb) and `settings` (every setting), then follow one study: `intake` (a file comes in),
`app` and `tasks` (the queue), `screen_study`, `screening.rules` (its verdict), `ledger.worklist` (its place). Which
package knows what: deploy/ARCHITECTURE.md.
"""
