"""What a model that was asked some of the problems would score on all of them: item-response theory on a run's own answers.

The two-parameter logistic model (Birnbaum 1968): a model of ability t solves problem i with probability
1 / (1 + exp(-(a_i t + c_i))). The problems' a and c are found by marginal maximum likelihood with the EM algorithm of Bock and
Aitkin (1981, Psychometrika 46(4)): abilities live on a grid whose weights are found as well, so that a population of broken and
good models is no exception. Some problems say more than others of who is able, so a part of them is often enough (Polo et al.
2024, https://arxiv.org/abs/2402.14992, whose parameters come from other people's models; here all are of one study).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit, logsumexp

Array = NDArray[np.float64]
_GRID = np.linspace(-4.0, 4.0, 41)  # abilities
_SLOPE, _SLOPE_SPREAD, _EASE_SPREAD = 1.0, 1.0, 3.0  # what is believed of a problem before anyone answers it: normal
_ROUNDS, _STEPS = 200, 3  # of EM, and of Newton within one of them
_CLOSE = 1e-4  # relative gain in likelihood at which EM ends


@dataclass(frozen=True, slots=True)
class Estimates:
    """What models would score on all problems.

    Attributes:
        scores: ``(n_models,)``, the expected share of solved problems; where a model was asked all, what it scored.
        errors: ``(n_models,)``, standard errors of these: of the ability, and of luck with the problems not asked. Those of the
            problems' parameters are left out.
    """

    scores: Array
    errors: Array


def estimated_scores(answers: Array) -> Estimates:
    """Fit all answers, and complete each model's.

    Args:
        answers: ``(n_models, n_problems)``, 1 where solved, 0 where not, nan where not asked.

    Raises:
        ValueError: Scores other than right and wrong, or a model that was asked nothing.
    """
    asked = ~np.isnan(answers)
    if not np.isin(answers[asked], (0.0, 1.0)).all():
        raise ValueError("item-response theory is about right and wrong answers; these scores are graded")
    if not asked.any(axis=1).all():
        raise ValueError("a model that was asked nothing has no estimate")
    right = np.where(asked, answers, 0.0)
    posterior, solves = _fitted(right, asked)
    known = right.sum(axis=1)
    expected = (~asked).astype(np.float64) @ solves.T  # of the problems not asked, by model and ability
    luck = (~asked).astype(np.float64) @ (solves * (1 - solves)).T
    mean = (posterior * expected).sum(axis=1)
    variance = (posterior * (luck + (expected - mean[:, None]) ** 2)).sum(axis=1)
    n = answers.shape[1]
    return Estimates((known + mean) / n, np.sqrt(variance) / n)


def _fitted(right: Array, asked: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Posteriors of the abilities ``(n_models, n_grid)``, and how each ability solves each problem ``(n_grid, n_problems)``."""
    share = (right.sum(axis=0) + 0.5) / (asked.sum(axis=0) + 1)
    slope, ease = np.full(len(share), _SLOPE), np.log(share / (1 - share))
    weight = np.exp(-0.5 * _GRID**2)
    wrong = asked - right
    before = -np.inf
    for _ in range(_ROUNDS):
        logits = _GRID[:, None] * slope + ease
        joint = right @ log_expit(logits).T + wrong @ log_expit(-logits).T + np.log(weight / weight.sum())
        evidence = logsumexp(joint, axis=1, keepdims=True)
        posterior = np.exp(joint - evidence)
        weight = posterior.sum(axis=0) + 1.0 / len(_GRID)  # no ability is impossible
        slope, ease = _newton(slope, ease, posterior.T @ right, posterior.T @ asked)
        total = float(evidence.sum())
        if total - before < _CLOSE * abs(total):
            break
        before = total
    return posterior, expit(_GRID[:, None] * slope + ease)


def _newton(slope: Array, ease: Array, solved: Array, tried: Array) -> tuple[Array, Array]:
    """The two parameters of every problem, from how often each ability solved and tried it, ``(n_grid, n_problems)``."""
    for _ in range(_STEPS):
        p = expit(_GRID[:, None] * slope + ease)
        off, weight = solved - tried * p, tried * p * (1 - p)
        by_slope = (_GRID[:, None] * off).sum(axis=0) - (slope - _SLOPE) / _SLOPE_SPREAD**2
        by_ease = off.sum(axis=0) - ease / _EASE_SPREAD**2
        aa = (_GRID[:, None] ** 2 * weight).sum(axis=0) + 1 / _SLOPE_SPREAD**2
        ac = (_GRID[:, None] * weight).sum(axis=0)
        cc = weight.sum(axis=0) + 1 / _EASE_SPREAD**2
        determinant = aa * cc - ac**2
        slope = slope + np.clip((cc * by_slope - ac * by_ease) / determinant, -1, 1)
        ease = ease + np.clip((aa * by_ease - ac * by_slope) / determinant, -1, 1)
    return slope, ease
