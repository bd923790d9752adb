"""Ratios of costs that were measured in pairs, with confidence intervals."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Ratio:
    """The ratio of two costs over several rounds.

    Attributes:
        median: Of the ratios of the rounds.
        low: The lower bound of the median; 0 if there were too few rounds for an interval.
        high: The upper bound; infinite if there were too few rounds.
    """

    median: float
    low: float
    high: float


def ratio_of(now: Sequence[float], then: Sequence[float]) -> Ratio:
    """Return the median ratio of paired rounds, with its interval of 95 % confidence.

    Both costs of a pair were measured one right after the other, or in short turns, so a busy
    machine raises both.
    The bounds are two of the ratios themselves, chosen by rank (`rank_of_bound`). That assumes
    nothing about their distribution, and single disturbed rounds have no influence.

    Args:
        now: The cost in each round.
        then: The cost that it is compared with, in the same rounds.
    """
    ratios = sorted([one / other for one, other in zip(now, then, strict=True)])
    rank = rank_of_bound(len(ratios))
    if rank == 0:
        return Ratio(statistics.median(ratios), 0.0, math.inf)
    return Ratio(statistics.median(ratios), ratios[rank - 1], ratios[-rank])


def rank_of_bound(rounds: int) -> int:
    """Return the rank of the ratio that bounds the median on either side; 0 if there is none.

    Each round is above the true median with a probability of one half. So the true median is
    below the ratio of rank k with the probability that fewer than k of the rounds are below it,
    which is a sum of binomial coefficients. The same applies from above. Of ten rounds the second
    and the ninth are the bounds; fewer than six rounds have none.
    """
    rank = 0
    outside = 0.0
    while rank < rounds:
        outside += 2 * math.comb(rounds, rank) / 2**rounds
        if outside > 1 - CONFIDENCE:
            break
        rank += 1
    return rank
