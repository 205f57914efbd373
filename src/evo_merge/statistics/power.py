"""What a number of problems can show: the power of a paired test, and the smallest difference that it would probably find.

For right and wrong answers the exact power of McNemar's exact test, summed over the number of problems on which two models
differ (the unconditional power of Duffy 1984, Biometrics 40(4)); for other scores the normal approximation of a paired test.
"""

import math

import numpy as np
import scipy  # its parts are imported when they are used; a build uses none

POWER = 0.8
ALPHA = 0.05


def mcnemar_power(n: int, difference: float, discordant: float, alpha: float = ALPHA) -> float:
    """How often McNemar's exact two-sided test on n problems finds the better of two models ahead.

    Args:
        n: Problems.
        difference: Of the two models' shares of solved problems, from 0 to ``discordant``.
        discordant: Share of the problems that exactly one of the two solves.
        alpha: Level of the test.

    Raises:
        ValueError: A difference that cannot be.
    """
    if not 0 <= difference <= discordant <= 1:
        raise ValueError(f"0 <= difference <= discordant <= 1 must hold, got {difference} and {discordant}")
    counts = np.arange(n + 1)  # of problems on which they differ
    chance = scipy.stats.binom.pmf(counts, n, discordant)
    counts, chance = counts[chance > 1e-9], chance[chance > 1e-9]
    most_lost = scipy.stats.binom.ppf(alpha / 2, counts, 0.5)  # with which the test still finds the other ahead
    most_lost -= scipy.stats.binom.cdf(most_lost, counts, 0.5) > alpha / 2
    lost = 0.5 - (difference / discordant if discordant else 0.0) / 2  # chance that it is the better model that fails
    return float(chance @ scipy.stats.binom.cdf(most_lost, counts, lost))


def detectable_difference(n: int, discordant: float, power: float = POWER, alpha: float = ALPHA) -> float | None:
    """The smallest difference that McNemar's exact test on n problems finds with that power; ``None`` where it finds none.

    A difference greater than ``discordant`` needs more problems to differ on than that; then all that differ are won.
    """

    def lacking(difference: float) -> float:
        return mcnemar_power(n, difference, max(difference, discordant), alpha) - power

    if n < 1 or lacking(1.0) < 0:
        return None
    return float(scipy.optimize.brentq(lacking, 0.0, 1.0, xtol=1e-5))


def detectable_mean_difference(n: int, deviation: float, power: float = POWER, alpha: float = ALPHA) -> float:
    """The same for other scores: ``deviation`` is the standard deviation of the differences of two models' scores."""
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    return float((scipy.stats.norm.ppf(1 - alpha / 2) + scipy.stats.norm.ppf(power)) * deviation / math.sqrt(n))
