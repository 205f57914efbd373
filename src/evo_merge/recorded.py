"""Evaluating what the study does not know yet, and recording it."""

import logging
from collections.abc import Callable
from typing import Protocol

from evo_merge.errors import Interrupted
from evo_merge.evaluation.base import Evaluation
from evo_merge.recipe import Recipe, recipe_hash
from evo_merge.study import Study
from evo_merge.tasks.base import Portion

log = logging.getLogger(__name__)


class Evaluator(Protocol):
    """Scores recipes."""

    def evaluate(self, recipe: Recipe, portion: Portion) -> Evaluation:
        """Score a recipe on a split, or some of it; one that cannot be built comes back as failed, with the reason."""


class Recorded:
    """An evaluator that asks the study first and records what it evaluates, before anyone hears of it.

    Args:
        evaluator: Asked for what is not known.
        study: The run's memory.
        stop_wanted: Whether the user asked to stop; looked at after every evaluation.
    """

    def __init__(self, evaluator: Evaluator, study: Study, stop_wanted: Callable[[], bool]) -> None:
        self._evaluator, self._study, self._stop_wanted = evaluator, study, stop_wanted

    def evaluate(self, recipe: Recipe, portion: Portion) -> Evaluation:
        """The evaluation, known or new.

        Raises:
            Interrupted: The user asked to stop; what was evaluated is recorded.
        """
        known = self._study.evaluation(recipe, portion.key)
        if known is not None:
            return known
        if self._stop_wanted():
            raise Interrupted
        log.info("evaluating recipe %s on %s", recipe_hash(recipe)[:8], portion.key)
        evaluation = self._evaluator.evaluate(recipe, portion)
        self._study.record_evaluation(recipe, portion, evaluation)
        if evaluation.failure is not None:
            log.info("recipe %s failed: %s", recipe_hash(recipe)[:8], evaluation.failure)
        return evaluation
