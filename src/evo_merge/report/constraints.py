"""What a run was to keep to, and whether the chosen candidate does: on the split it was chosen by, and on the others."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from evo_merge.evaluation.base import Evaluation
from evo_merge.recipe import Recipe
from evo_merge.study import Study

_SPLITS = ("search", "validation", "test")


@dataclass(frozen=True, slots=True)
class Check:
    """The least that a metric must reach on one split, and what the chosen candidate reached."""

    least: float
    reached: float

    @property
    def is_kept(self) -> bool:
        """Whether that was enough."""
        return self.reached >= self.least


@dataclass(frozen=True, slots=True)
class Constraint:
    """A metric that must not fall below a bound.

    Attributes:
        metric: Its name.
        bound: The least mean: a number, or the name of the source whose mean on the same split it is.
        checks: By split, as far as it was asked.
        lost: Splits on which there is no bound, because the source could not be scored.
    """

    metric: str
    bound: float | str
    checks: Mapping[str, Check]
    lost: tuple[str, ...] = ()


def read_constraints(study: Study, recipe: Recipe | None) -> tuple[Constraint, ...]:
    """The constraints of a run, checked for a recipe; without checks where it or the source of a bound has no score yet."""
    bounds = json.loads(study.get("constraints") or "{}")
    sources = {entrant.name: entrant.recipe for entrant in study.entrants() if entrant.role == "source"} if bounds else {}
    asked = {split: None if recipe is None else study.evaluation(recipe, split) for split in _SPLITS if bounds}
    found = []
    for metric, bound in bounds.items():
        checks, lost = {}, []
        for split, evaluation in asked.items():
            if not isinstance(bound, str):
                least: float | None = float(bound)
            else:
                source = study.evaluation(sources[bound], split) if bound in sources else None  # the run may end before it
                least = _mean(source, metric)
                if source is not None and source.failure is not None:
                    lost.append(split)
            reached = _mean(evaluation, metric)
            if least is not None and reached is not None:
                checks[split] = Check(least, reached)
        found.append(Constraint(metric, bound, checks, tuple(lost)))
    return tuple(found)


def nearest_finalist(study: Study, recipes: Mapping[int, Recipe]) -> int | None:
    """The number that misses least on the validation split; ``None`` where one misses nothing, or none has a score."""
    found = {number: study.evaluation(recipe, "validation") for number, recipe in recipes.items()}
    missed = {number: e.violation for number, e in found.items() if e is not None and e.failure is None}
    return min(missed, key=lambda number: missed[number]) if missed and all(missed.values()) else None


def to_record(constraints: Iterable[Constraint]) -> dict[str, Any]:
    """By metric what each was, and by split what was asked for, what the candidate reached, and whether that was enough."""
    return {
        constraint.metric: {"at_least": constraint.bound}
        | {
            split: {"least": check.least, "reached": check.reached, "kept": check.is_kept}
            for split, check in constraint.checks.items()
        }
        for constraint in constraints
    }


def from_record(record: Mapping[str, Any]) -> tuple[Constraint, ...]:
    """What ``to_record`` wrote, but for the splits on which a bound is lost."""
    return tuple(
        Constraint(
            metric,
            found["at_least"],
            {split: Check(found[split]["least"], found[split]["reached"]) for split in _SPLITS if split in found},
        )
        for metric, found in record.items()
    )


def _mean(evaluation: Evaluation | None, metric: str) -> float | None:
    return None if evaluation is None else evaluation.means.get(metric)
