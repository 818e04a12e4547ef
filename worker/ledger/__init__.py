"""The only room that writes rows. Three people come to its counter: intake, delivery, and the persons who read.

`intake` books files and studies in, `offers` says which to enqueue, `delivery` moves those to a verdict, `people` keeps
what persons decide, `places` says where on the worklist a study stands, and `retention` lets bytes go; `receipts` and
`results` are what they hand over. Every function is one transaction, unless it says that it takes many rows in chunks.
"""
