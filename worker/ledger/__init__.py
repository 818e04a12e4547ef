"""The only room that writes rows. Three people come to its counter: intake, delivery, and the persons who read.

`intake` books files and studies in, `offers` says which to enqueue, `delivery` moves those to a verdict, `people` keeps
what persons decide, and `places` says where on the worklist a study stands; `receipts` and `results` are what they hand
over. Every function is one transaction.
"""
