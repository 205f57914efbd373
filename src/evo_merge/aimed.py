"""Evaluations as the run's aim sees them: with its own columns, its one number, and what its constraints miss."""

from collections.abc import Callable, Mapping

from evo_merge.errors import ConfigError
from evo_merge.evaluation.base import Evaluation
from evo_merge.objectives import Aim
from evo_merge.recipe import Recipe
from evo_merge.recorded import Evaluator
from evo_merge.tasks.base import Portion


class Aimed:
    """An evaluator whose evaluations are judged by an aim.

    Args:
        evaluator: Scores recipes on the task.
        aim: What the run wants.
        sources: The sources' recipes by name; an aim may compare with them.
        known: What a study has of a recipe on the portion of that key, or ``None``.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        aim: Aim,
        sources: Mapping[str, Recipe],
        known: Callable[[Recipe, str], Evaluation | None],
    ) -> None:
        self._evaluator, self._aim, self._sources, self._known = evaluator, aim, sources, known
        self._references: dict[str, tuple[str, Evaluation]] = {}  # by source: what it was asked last, and what it scored

    def evaluate(self, recipe: Recipe, portion: Portion) -> Evaluation:
        """Score a recipe and judge it; a source that it is compared with is asked the same, once."""
        own = next((name for name, source in self._sources.items() if source == recipe), None)
        evaluation = self._evaluator.evaluate(recipe, portion) if own is None else self._reference(own, portion)
        return self._aim.judged(recipe, evaluation, self._sources, lambda name: self._scored(name, portion))

    def _scored(self, name: str, portion: Portion) -> Evaluation:
        found = self._reference(name, portion)
        if found.failure is not None:
            raise ConfigError(f"objectives and constraints cannot compare with '{name}', which failed: {found.failure}")
        return found

    def _reference(self, name: str, portion: Portion) -> Evaluation:
        key, found = self._references.get(name, ("", None))
        if found is None or key != portion.key:
            source = self._sources[name]
            found = self._known(source, portion.key) or self._evaluator.evaluate(source, portion)
            self._references[name] = (portion.key, found)
        return found
