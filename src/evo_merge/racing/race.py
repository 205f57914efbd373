"""The race of a generation: all candidates are asked a slice, those that are out of the best stop, the others go on."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from evo_merge.errors import ConfigError
from evo_merge.evaluation.base import Evaluation
from evo_merge.portions import growing
from evo_merge.racing.elimination import out_of_the_best
from evo_merge.racing.rules import Rules
from evo_merge.recipe import Recipe
from evo_merge.tasks.base import Portion

log = logging.getLogger(__name__)
_BELOW = 1e-9  # far less than one answer in the mean of as many as there will ever be, and far more than rounding


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a candidate scored.

    Attributes:
        evaluation: On all that it was to be asked, or on what it was asked before it stopped.
        asked: What that was, where it stopped.
    """

    evaluation: Evaluation
    asked: Portion | None = None


class Evaluator(Protocol):
    """Scores recipes, and asks nothing twice."""

    def evaluate(self, recipe: Recipe, portion: Portion) -> Evaluation:
        """Score a recipe on a split, or some of it."""


class Race:
    """Scores generations in slices.

    Args:
        rules: Of the race.
        sizes: Examples of each part of the search split, by the stage whose task it is.
        seed: Of the order in which a generation is asked.
    """

    def __init__(self, rules: Rules, sizes: Mapping[str, Sequence[int]], seed: int) -> None:
        self._rules, self._sizes, self._seed = rules, sizes, seed

    def outcomes(self, evaluator: Evaluator, recipes: Sequence[Recipe], portion: Portion, number: int) -> Iterator[Outcome]:
        """What each candidate scored, in order, when the race is over.

        Args:
            evaluator: Scores them.
            recipes: Of the generation.
            portion: What all would be asked if there were no race.
            number: Of the generation's first candidate: no two generations of a run are asked in the same order.

        Raises:
            ConfigError: The task does not score answers as right or wrong.
        """
        sizes = self._sizes[portion.stage]
        looks = growing(portion, sizes, self._rules.slices, [self._seed, number])
        n_whole = sum(sizes) if portion.positions is None else len(portion.positions)
        kept = max(1, int(len(recipes) * self._rules.keep))
        found: dict[int, Outcome] = {}
        left = list(range(len(recipes)))
        for look in looks[:-1]:
            scored = {i: evaluator.evaluate(recipes[i], look) for i in left}
            found |= {i: Outcome(scored[i], look) for i in left if scored[i].failure is not None}
            left = [i for i in left if scored[i].failure is None]
            if not left:
                break
            is_out = out_of_the_best(
                np.stack([_right(scored[i]) for i in left]),
                n_whole - len(look.positions or ()),
                n_candidates=len(recipes),
                kept=kept,
                level=self._rules.risk / (len(looks) - 1),
            )
            found |= {i: Outcome(scored[i], look) for i, out in zip(left, is_out, strict=True) if out}
            left = [i for i, out in zip(left, is_out, strict=True) if not out]
            log.info("race: after %d problems %d of %d candidates are left", len(look.positions or ()), len(left), len(recipes))
        found |= {i: Outcome(evaluator.evaluate(recipes[i], looks[-1])) for i in left}
        yield from (found[i] for i in range(len(recipes)))


def in_full(evaluator: Evaluator, recipes: Sequence[Recipe], portion: Portion) -> Iterator[Outcome]:
    """What each candidate scored where there is no race, one after the other."""
    return (Outcome(evaluator.evaluate(recipe, portion)) for recipe in recipes)


def told(outcomes: Sequence[Outcome]) -> list[Evaluation]:
    """What an optimizer hears: of those that stopped, fitnesses below all that were asked everything.

    All are lowered by the same, if at all, so that they stay in the order of what is known of them.
    """
    full = [_fitness(o) for o in outcomes if o.asked is None and o.evaluation.failure is None]
    stopped = [_fitness(o) for o in outcomes if o.asked is not None and o.evaluation.failure is None]
    if not stopped or not full:
        return [o.evaluation for o in outcomes]
    excess = max(0.0, max(stopped) - min(full) + _BELOW)
    return [
        o.evaluation if o.asked is None or o.evaluation.failure is not None else _lowered(o.evaluation, excess)
        for o in outcomes
    ]


def _lowered(evaluation: Evaluation, excess: float) -> Evaluation:
    return replace(evaluation, scalar=float(evaluation.fitness[0]) - excess)


def _fitness(outcome: Outcome) -> float:
    return float(outcome.evaluation.fitness[0])


def _right(evaluation: Evaluation) -> NDArray[np.bool_]:
    """``(n,)``, which of the objective's examples were answered right."""
    name = evaluation.metrics[0]
    column = evaluation.column(name)
    if not np.isin(column, (0.0, 1.0)).all():
        raise ConfigError(
            f"evaluation.racing compares right answers with wrong ones, and '{name}' has scores between 0 and 1 or beyond; set "
            "evaluation.racing=null"
        )
    return np.asarray(column == 1.0, dtype=bool)
