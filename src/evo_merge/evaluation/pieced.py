"""No problem is asked of a recipe twice: what is known of some of a portion is put together with what is still asked."""

from dataclasses import replace
from typing import Protocol

import numpy as np

from evo_merge.evaluation.base import Evaluation
from evo_merge.evaluation.cost import NOTHING
from evo_merge.recipe import Recipe
from evo_merge.tasks.base import Example, Portion


class Evaluator(Protocol):
    """Scores recipes."""

    def evaluate(self, recipe: Recipe, portion: Portion) -> Evaluation:
        """Score a recipe on a split, or some of it."""


class Memory(Protocol):
    """What was answered before, such as a study."""

    def examples(self, split: str) -> list[Example]:
        """Of a whole split, by its portion's key."""

    def portions(self, recipe: Recipe, split: str) -> list[str]:
        """Keys of the portions of a split that a recipe has answered."""

    def evaluation(self, recipe: Recipe, portion: str) -> Evaluation | None:
        """What it scored on one of them."""


class Pieced:
    """An evaluator that asks only what is not known.

    Of several portions that are known, the one that holds most of what is wanted is taken: of a race the slices so far.

    Args:
        evaluator: Asked for the rest.
        memory: What was answered before: the whole split, an earlier slice of it, problems of another generation.
    """

    def __init__(self, evaluator: Evaluator, memory: Memory) -> None:
        self._evaluator, self._memory = evaluator, memory

    def evaluate(self, recipe: Recipe, portion: Portion) -> Evaluation:
        """The evaluation of the portion; where a piece of it fails, it fails.

        Its costs are those of the new answers, and of the known ones where they were asked for no other portion.
        """
        whole = replace(portion, positions=None).key
        keys = self._memory.portions(recipe, whole)
        if not keys:
            return self._evaluator.evaluate(recipe, portion)
        wanted = range(len(self._memory.examples(whole))) if portion.positions is None else portion.positions
        pieces = [_cut(found, wanted) for key in keys if (found := self._memory.evaluation(recipe, key)) is not None]
        known = max(pieces, key=lambda piece: len(piece.scores))  # the first among equals
        assert known.positions is not None, "a piece says of which examples it is"
        left = sorted(set(wanted) - set(known.positions))
        if not left:
            return replace(known, positions=portion.positions)
        rest = self._evaluator.evaluate(recipe, replace(portion, positions=tuple(left)))
        return rest if rest.failure is not None else replace(_joined(known, rest), positions=portion.positions)


def _cut(evaluation: Evaluation, wanted: range | tuple[int, ...]) -> Evaluation:
    """The rows that are wanted; without its costs where there are others."""
    places = range(len(evaluation.scores)) if evaluation.positions is None else evaluation.positions
    among = frozenset(wanted)
    rows = [row for row, place in enumerate(places) if place in among]
    return replace(
        evaluation,
        scores=evaluation.scores[rows],
        completions=tuple(evaluation.completions[row] for row in rows),
        positions=tuple(places[row] for row in rows),
        written=None if evaluation.written is None else tuple(evaluation.written[row] for row in rows),
        cost=evaluation.cost if len(rows) == len(places) else NOTHING,
    )


def _joined(known: Evaluation, rest: Evaluation) -> Evaluation:
    """Two disjoint pieces as one, in the order of the split, with the columns of the new one; no aim has judged it."""
    columns = [known.metrics.index(name) for name in rest.metrics]
    order = np.argsort((*(known.positions or ()), *(rest.positions or ())))
    completions = (*known.completions, *rest.completions)
    written = None if known.written is None or rest.written is None else (*known.written, *rest.written)
    return replace(
        rest,
        scores=np.concatenate([known.scores[:, columns], rest.scores])[order],
        completions=tuple(completions[place] for place in order),
        written=None if written is None else tuple(written[place] for place in order),
        cost=known.cost + rest.cost,
    )
