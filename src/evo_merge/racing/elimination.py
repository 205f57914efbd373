"""Which candidates of a generation are out of its best: an exact test on the examples that all were asked.

**What is claimed.** A generation has ``n`` candidates, of which the optimizer learns from ``kept``. A candidate is *among the
best* if fewer than ``kept`` others have more right answers on the whole portion. One that is among the best is stopped with a
probability of at most ``risk``, over all looks together, whatever the candidates have in common. The chance is that of the
order in which examples are asked, which is drawn anew for each generation; a candidate's answers are taken as given.

**A pair.** Of the examples asked so far a rival is right where the candidate is wrong ``wins`` times, and the other way round
``losses`` times. If the rival is no better on the whole, its wins on the whole are at most half of what the two differ in, and
those seen are a draw without replacement: hypergeometric (Fisher's exact reasoning; McNemar's test is the limit of endless
examples). How many differences are still to come nobody knows. The more, the larger the p-value, so all of the unseen count as
such. What is not yet asked so makes the test exact for the whole portion: a lead that cannot be caught up has p = 0.

**A generation.** To be out, ``kept`` rivals must be better. If the candidate is among the best, at least ``n - kept`` of its
rivals are not, and to stop it one of these must look so. Bonferroni's p-value for that is ``(n - kept)`` times the ``kept``-th
smallest (Benjamini and Heller 2008, https://doi.org/10.1111/j.1541-0420.2007.00984.x, equation 3), under any dependence. Each
of the looks gets an equal share of the risk.
"""

from functools import lru_cache

import numpy as np
import scipy  # its parts are imported when they are used; a wrong option is refused without them
from numpy.typing import NDArray


@lru_cache(maxsize=2**16)  # pairs repeat, and scipy takes its time over each
def p_not_better(wins: int, losses: int, unseen: int) -> float:
    """One-sided p-value of "the rival is right no more often than the candidate, on the whole".

    Args:
        wins: Examples that the rival alone answered right.
        losses: Examples that the candidate alone answered right.
        unseen: Examples that neither was asked yet.
    """
    if wins <= losses:
        return 1.0
    seen = wins + losses
    differing = seen + unseen - (seen + unseen) % 2  # even: of an odd number less than half would be wins
    if differing < seen:
        return 0.0  # nothing is left to be asked
    return float(scipy.stats.hypergeom.sf(wins - 1, differing, differing // 2, seen))


def out_of_the_best(right: NDArray[np.bool_], unseen: int, *, n_candidates: int, kept: int, level: float) -> NDArray[np.bool_]:
    """Who is stopped at a look.

    Those with the most right answers so far never are: nobody is ahead of them ``kept`` times.

    Args:
        right: ``(n_left, n_seen)``, what the candidates still in the race got right of what all of them were asked.
        unseen: Examples that they were not asked yet.
        n_candidates: With which the race began.
        kept: How many the optimizer learns from.
        level: The share of the risk that this look may spend.

    Returns:
        ``(n_left,)``.
    """
    count = len(right)
    stopped = np.zeros(count, dtype=bool)
    if count <= kept:
        return stopped
    answers = right.astype(np.int64)
    wins = (1 - answers) @ answers.T  # [i, j]: examples that j got right and i did not
    for i in range(count):
        # 1 for the candidate itself, which is none of its rivals: it has as many wins as losses.
        values = sorted(p_not_better(int(wins[i, j]), int(wins[j, i]), unseen) for j in range(count))
        stopped[i] = (n_candidates - kept) * values[kept - 1] <= level
    return stopped
