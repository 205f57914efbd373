"""What the best of many would score on other problems of the same kind: corrections of its score for having been chosen by it.

Whoever has the best score on a split was also lucky there (the winner's curse). All estimators take the scores of *all*
candidates on the same problems, so that candidates that answer alike count as the few that they are:

- ``split_sample``: choose on one part of the problems, score on the rest. Honest, but about a choice by fewer problems than the
  real one, which finds worse candidates: too low where the candidates differ.
- ``bootstrap_selection``: resample the problems; the mean lead of a resample's winner over its own score on all problems (Efron
  1983, JASA 78(382), calls it optimism). Too small: a resample's winner is chosen by the sample's luck and the resample's, and
  only the latter is seen.
- ``corrected_score``: split samples of several sizes, extrapolated to a choice by all problems, as SIMEX does with errors of
  measurement (Cook and Stefanski 1994, JASA 89(428)). The one that reports use; ``docs/statistics.md`` has what was measured.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEWEST_PROBLEMS = 20  # a choice is also made by a quarter of them
_SHARES = (4 / 5, 2 / 3, 1 / 2, 1 / 3, 1 / 4)  # of the problems that choose
_REPEATS = 100
_RESAMPLES = 200
_SEED = 0


@dataclass(frozen=True, slots=True)
class Corrected:
    """The score of the best of many.

    Attributes:
        observed: Its mean over the problems that it was chosen by.
        corrected: What it would probably score on others; above ``observed`` in some runs in which the best was not lucky.
        n_candidates: Among how many it was the best.
        n_problems: How many problems chose.
    """

    observed: float
    corrected: float
    n_candidates: int
    n_problems: int


def corrected_score(scores: NDArray[np.float64], repeats: int = _REPEATS, seed: int = _SEED) -> Corrected:
    """Correct the greatest mean of ``(n_candidates, n_problems)`` scores for having been chosen as the greatest.

    Let g(k) be ``split_sample`` where a k-th of the problems chooses: its luck has k times the variance of that of the real
    choice. A parabola is fitted to g(1.25), g(1.5), g(2), g(3) and g(4) by least squares, and read at k = 1. For normal truths
    and luck this is at most 0.03 standard errors too low; g(2) is 0.51.

    Raises:
        ValueError: Fewer than ``FEWEST_PROBLEMS`` problems, or no candidate.
    """
    n_candidates, n_problems = scores.shape
    split = [split_sample(scores, share, repeats, seed) for share in _SHARES]
    powers = np.vander(1 / np.asarray(_SHARES) - 1, 3, increasing=True)  # of k - 1, so that the first coefficient is at k = 1
    corrected = float(np.linalg.lstsq(powers, np.asarray(split), rcond=None)[0][0])
    lowest, highest = float(scores.min()), float(scores.max())
    observed = float(scores.mean(axis=1).max())
    return Corrected(observed, min(max(corrected, lowest), highest), n_candidates, n_problems)


def split_sample(scores: NDArray[np.float64], share: float = 1 / 2, repeats: int = _REPEATS, seed: int = _SEED) -> float:
    """Mean score, on the rest of the problems, of who is the best on a random share of them.

    Candidates that are equally good on the share count alike.

    Args:
        scores: ``(n_candidates, n_problems)``.
        share: Of the problems that choose, between 0 and 1.
        repeats: Random splits; each is read both ways where the share is one half of an even number of problems.
        seed: Of the splits.
    """
    values = _checked(scores)
    n_problems = values.shape[1]
    n_choosing = min(max(round(share * n_problems), 1), n_problems - 1)
    rng = np.random.default_rng(seed)
    places = rng.permuted(np.broadcast_to(np.arange(n_problems), (repeats, n_problems)), axis=1)
    chooses = (places < n_choosing).T  # (n_problems, repeats)
    if 2 * n_choosing == n_problems:
        chooses = np.concatenate([chooses, ~chooses], axis=1)
    inside = values @ chooses.astype(np.float32)  # (n_candidates, n_splits), sums over those that choose
    outside = values.sum(axis=1, keepdims=True) - inside
    return float(_of_winners(inside, outside).mean() / (n_problems - n_choosing))


def bootstrap_selection(scores: NDArray[np.float64], resamples: int = _RESAMPLES, seed: int = _SEED) -> float:
    """The greatest mean of ``(n_candidates, n_problems)`` scores, less the optimism of resampled choices."""
    values = _checked(scores)
    n_problems = values.shape[1]
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(n_problems, np.full(n_problems, 1 / n_problems), size=resamples).T.astype(np.float32)
    resampled = values @ weights  # (n_candidates, resamples)
    means = np.broadcast_to(values.mean(axis=1)[:, None], resampled.shape)
    optimism = resampled.max(axis=0) / n_problems - _of_winners(resampled, means)
    return float(scores.mean(axis=1).max() - optimism.mean())


def _of_winners(by: NDArray[np.float32], values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of each column the mean of ``values`` over the rows that are greatest in ``by``; both ``(n_candidates, n_choices)``."""
    greatest = by >= by.max(axis=0) - 1e-4  # sums in single precision
    return np.asarray((values * greatest).sum(axis=0, dtype=np.float64) / greatest.sum(axis=0), dtype=np.float64)


def _checked(scores: NDArray[np.float64]) -> NDArray[np.float32]:
    if scores.ndim != 2 or scores.shape[0] == 0 or scores.shape[1] < FEWEST_PROBLEMS:
        raise ValueError(
            f"a correction needs scores of the shape (n_candidates, n_problems) with at least {FEWEST_PROBLEMS} problems, "
            f"got {scores.shape}"
        )
    return scores.astype(np.float32)  # half the time of doubles, and 0 and 1 are exact
