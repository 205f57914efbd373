"""What models that were asked some of a split would score on all of it, by the answers of everyone in the study."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evo_merge.report.answers.read import Answers
from evo_merge.statistics.item_response import estimated_scores
from evo_merge.study import Study

_MOST = 1000  # candidates, the last ones: the nearest to what is looked at
_LEAST = 20  # with fewer there is little to learn problems from


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is thought of a model that was asked some of the problems.

    Attributes:
        asked: Problems that it was asked.
        of: Problems that have the metric, and that anybody in the run was asked.
        solved: Share of those that it was asked.
        score: Share of these that it would solve.
        error: Standard error of ``score``.
    """

    asked: int
    of: int
    solved: float
    score: float
    error: float


def estimates(study: Study, answers: Answers, metric: str) -> dict[str, Estimate]:
    """By name of the model, for those on a sheet that were asked some of it.

    Empty where scores are graded, or the run has fewer than 20 models that answered.
    """
    place = answers.metrics.index(metric)
    everyone = np.vstack([*(model.scores[None, :, place] for model in answers.models), *_others(study, answers, metric)])
    everyone = everyone[:, ~np.isnan(everyone).all(axis=0)]
    asked = (~np.isnan(everyone)).sum(axis=1)
    partly = [i for i in range(len(answers.models)) if 0 < asked[i] < everyone.shape[1]]
    is_binary = np.isin(everyone[~np.isnan(everyone)], (0.0, 1.0)).all()
    if not partly or not is_binary or (asked > 0).sum() < _LEAST:
        return {}
    found = estimated_scores(everyone[asked > 0])
    rows = np.cumsum(asked > 0) - 1
    return {
        answers.models[i].name: Estimate(
            asked=int(asked[i]),
            of=everyone.shape[1],
            solved=float(np.nanmean(everyone[i])),
            score=float(found.scores[rows[i]]),
            error=float(found.errors[rows[i]]),
        )
        for i in partly
    }


def sentence(name: str, estimate: Estimate) -> str:
    """What a model scored on what it was asked, and what is thought of the whole."""
    return (
        f"{name} was asked {estimate.asked:,} of {estimate.of:,} problems and solved {100 * estimate.solved:.1f} %; of all it "
        f"would solve about {100 * estimate.score:.1f} ± {100 * estimate.error:.1f} %, by item-response theory on this run's "
        "answers"
    )


def _others(study: Study, answers: Answers, metric: str) -> Iterator[NDArray[np.float64]]:
    """``(1, n_problems)`` for each candidate that is not on the sheet."""
    shown = {study.hash_of(model.number) for model in answers.models if model.number is not None}
    recipes = [recipe for recipe in dict.fromkeys(p.recipe for p in study.proposals()) if recipe not in shown]
    for recipe in recipes[-_MOST:]:
        row = np.full((1, len(answers.examples)), np.nan)
        for evaluation in study.evaluations_of(recipe, answers.split):
            if evaluation.failure is None and metric in evaluation.metrics:
                positions = range(row.shape[1]) if evaluation.positions is None else evaluation.positions
                row[0, list(positions)] = evaluation.scores[:, evaluation.metrics.index(metric)]
        yield row
