"""By how much the chosen candidate's score flatters it, for having been the best of many; read from the study's answers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evo_merge.recipe import recipe_hash
from evo_merge.report.searched import SearchedCandidate
from evo_merge.statistics.selection import FEWEST_PROBLEMS, Corrected, corrected_score
from evo_merge.study import Study

_FEWEST_CANDIDATES = 2


@dataclass(frozen=True, slots=True)
class Selected:
    """A choice by the greatest mean score: the split that made it, and the score as observed and as corrected."""

    split: str
    score: Corrected


def read_selected(
    study: Study, split: str, metric: str, candidates: Sequence[SearchedCandidate], lead: SearchedCandidate | None
) -> Selected | None:
    """Correct the leading candidate's score on the split that chose it.

    Repeats of a recipe, failed candidates, those of a stage with a task of its own and those that miss a constraint where the
    leader misses none were not there to choose from. With ``split=validation`` these are the finalists only.

    Returns:
        ``None`` where there is nothing to correct, too little to do it by, or the leader is not who has the greatest mean:
        each generation was asked other problems, or a part of the candidates was not to choose from.
    """
    if lead is None:
        return None
    has_own_portion = split == "search" and not lead.is_of_batch  # a subset that is the same for all candidates
    by_recipe = study.columns(lead.portion if has_own_portion else split, metric)
    rivals = {recipe_hash(c.recipe) for c in candidates if not c.has_own_task and c.failure is None and _keeps(c, lead)}
    own = by_recipe.get(recipe_hash(lead.recipe))
    if own is None or len(own) < FEWEST_PROBLEMS:
        return None
    columns = [column for recipe, column in by_recipe.items() if recipe in rivals and len(column) == len(own)]
    if len(columns) < _FEWEST_CANDIDATES:
        return None
    scores = np.stack(columns)
    if not np.isclose(scores.mean(axis=1).max(), own.mean(), rtol=0, atol=1e-9):
        return None
    return Selected(split, corrected_score(scores))


def _keeps(candidate: SearchedCandidate, lead: SearchedCandidate) -> bool:
    return lead.violation > 0 or candidate.violation == 0
