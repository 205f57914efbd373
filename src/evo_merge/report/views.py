"""A run as one of its objectives sees it, so that all that is said of one objective can be said of each of several."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from evo_merge.evaluation.base import Evaluation
from evo_merge.report.answers.why import reasons
from evo_merge.report.results import Model, RunResults
from evo_merge.report.searched import SearchedCandidate


def views(results: RunResults) -> tuple[RunResults, ...]:
    """One an objective, in their order."""
    return tuple(of_objective(results, name) for name in results.objectives)


def of_objective(results: RunResults, objective: str) -> RunResults:
    """The run as if it were about that objective alone: its scores, its examples, and no other member of a front.

    Where the search was about one number made of several objectives, candidates have no score of a single one. A run with one
    objective keeps its candidates' scores, whatever it called them.
    """
    is_only = len(results.objectives) == 1
    fitness_names = results.fitness_names if is_only else (objective,)
    place = 0 if is_only else results.fitness_names.index(objective) if objective in results.fitness_names else None
    test_masks = [_asked(model.test, objective) for model in results.models]
    test_mask = next((mask for mask in test_masks if mask is not None), np.ones(len(results.test_examples), dtype=bool))
    search_masks = [_asked(model.search, objective) for model in results.models]
    n_search = next((int(mask.sum()) for mask in search_masks if mask is not None), results.n_search)
    return replace(
        results,
        objectives=(objective,),
        fitness_names=fitness_names,
        models=tuple(_of_model(model, objective) for model in results.models if model.role != "front"),
        candidates=tuple(_of_candidate(candidate, place) for candidate in results.candidates),
        n_search=n_search,
        test_examples=tuple(e for e, is_asked in zip(results.test_examples, test_mask, strict=True) if is_asked),
    )


def _of_candidate(candidate: SearchedCandidate, place: int | None) -> SearchedCandidate:
    own = candidate.fitness[place : place + 1] if place is not None else ()  # a stage's own task may have fewer objectives
    return replace(candidate, score=own[0] if own else None, fitness=own)


def _of_model(model: Model, objective: str) -> Model:
    return replace(model, search=_cut(model.search, objective), test=_cut(model.test, objective))


def _asked(evaluation: Evaluation | None, objective: str) -> NDArray[np.bool_] | None:
    """``(n_rows,)``, which examples the objective is about; ``None`` where nothing tells."""
    if evaluation is None or evaluation.failure is not None or not len(evaluation.scores):
        return None
    return ~np.isnan(evaluation.scores[:, evaluation.metrics.index(objective)])


def _cut(evaluation: Evaluation | None, objective: str) -> Evaluation | None:
    """The rows and the column of one objective, and the columns that say why an answer is wrong by it."""
    mask = _asked(evaluation, objective)
    if evaluation is None or mask is None:
        return evaluation
    beside = [name for name in reasons(objective) if name in evaluation.metrics]
    return replace(
        evaluation,
        metrics=(objective, *beside),
        n_objectives=1,
        scores=evaluation.scores[mask][:, [evaluation.metrics.index(name) for name in (objective, *beside)]],
        completions=tuple(text for text, is_asked in zip(evaluation.completions, mask, strict=True) if is_asked),
        positions=None,
        scalar=None,
    )
