"""What a run was to keep to, and whether the chosen candidate does: on the split it was chosen by, and on the others."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

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
    """

    metric: str
    bound: float | str
    checks: Mapping[str, Check]


def read_constraints(study: Study, recipe: Recipe | None) -> tuple[Constraint, ...]:
    """The constraints of a run, checked for a recipe; without checks where there is none yet."""
    bounds = json.loads(study.get("constraints") or "{}")
    if not bounds:
        return ()
    sources = {entrant.name: entrant.recipe for entrant in study.entrants() if entrant.role == "source"}
    means = {split: None if recipe is None else _means(study.evaluation(recipe, split)) for split in _SPLITS}
    found = []
    for metric, bound in bounds.items():
        checks = {}
        for split, reached in means.items():
            least = _means(study.evaluation(sources[bound], split)) if isinstance(bound, str) else {metric: float(bound)}
            if reached is not None and least is not None and metric in reached and metric in least:
                checks[split] = Check(least[metric], reached[metric])
        found.append(Constraint(metric, bound, checks))
    return tuple(found)


def _means(evaluation: Evaluation | None) -> dict[str, float] | None:
    return None if evaluation is None or evaluation.failure is not None else evaluation.means
