"""The rows of a study from the queue to its verdict: offered, claimed, kept by a lease, recorded.

Knows states, claims and attempts. Does not know how an image is screened, and sends no message.
Begin with `outbox` (which studies to offer), then `message` (the studies of a message, brought to their ends), `claims`
(who screens an offered study), `leases` (a claim is kept alive) and `verdicts` (what was found).
"""
