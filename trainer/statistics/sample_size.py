"""How many images a site needs to show a specificity or a sensitivity with assurance, by order statistics.

Of n independent normals the threshold lies just above the r-th largest score. The true share of normals at or above
it exceeds 1 - target with the probability that fewer than r of n lie in that highest share of all scores, which is
binomial, whatever the distribution of the scores (Wilks 1941). The same holds for the lowest scores of positives.
"""

import math

#: Probability that the target holds.
ASSURANCE = 0.95


def assured_rank(n: int, target: float) -> int:
    """The largest r for which the threshold beyond the r-th extreme score of n keeps `target`; 0: n are too few."""
    below, rank = 0.0, 0
    while rank < n:
        below += _exactly(rank, n, 1 - target)
        if below > 1 - ASSURANCE:
            break
        rank += 1
    return rank


def fewest(target: float) -> int:
    """The fewest cases that can show `target`: with them not one may lie beyond the threshold."""
    return math.ceil(math.log(1 - ASSURANCE) / math.log(target) - 1e-9)


def _exactly(count: int, n: int, share: float) -> float:
    """Probability of `count` successes in n independent trials."""
    ways = math.lgamma(n + 1) - math.lgamma(count + 1) - math.lgamma(n - count + 1)
    return math.exp(ways + count * math.log(share) + (n - count) * math.log1p(-share))
