"""What a study holds, for tests that compare runs."""

from typing import Any

from evo_merge.recipe import recipe_hash
from evo_merge.study import Study


def memory(study: Study) -> list[tuple[Any, ...]]:
    """Everything that the study holds of the candidates."""
    found = []
    for c in study.candidates():
        evaluation = study.evaluation(c.recipe, c.portion)
        scores = None if evaluation is None else (evaluation.scores.tolist(), evaluation.failure)
        found.append((c.number, c.stage, c.generation, c.portion, c.genome.tolist(), recipe_hash(c.recipe), scores))
    return found
