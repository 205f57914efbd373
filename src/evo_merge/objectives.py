"""What a run wants: which numbers are maximised, which must not fall below a bound, and how several become one.

The numbers are metrics of the task, or one of those that any task has:

- ``brevity``: minus the characters of the answer;
- ``in_language/<code>``: whether the answer is in that language, by fastText;
- ``kept/<source>/<metric>``: 1, less what the source has on the problem and the candidate lost ("do not get worse than it");
- ``sparsity``: the share of the sources' changes that the recipe leaves out, from its densities and weights;
- ``few_sources``: minus the number of sources that the recipe uses (an L0 pressure).

All are kept per example like the task's own, the last two as the same number for each. What reads the answer (``brevity``,
``in_language``) is of completions that the model wrote; an example whose continuations are compared is none of theirs.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evo_merge.command_line import nearest
from evo_merge.errors import ConfigError
from evo_merge.evaluation import language as languages
from evo_merge.evaluation.base import Evaluation
from evo_merge.recipe import DataFlowRecipe, ParameterSpaceRecipe, Recipe
from evo_merge.scalarize import Scalarization

# What a source scored by the task alone on what the candidate was asked, by its name.
References = Callable[[str], Evaluation]
Column = Callable[[Recipe, Evaluation, References], NDArray[np.float64]]  # (n_examples,)
_OF_RECIPES = ("sparsity", "few_sources")  # numbers of the recipe: no other problems would change them
_PROBABLE_ENOUGH = 0.5  # of a language, as for the published tasks


def has_chance(name: str) -> bool:
    """Whether a metric depends on which problems are asked, so that there are intervals and tests of it."""
    return name not in _OF_RECIPES


@dataclass(frozen=True)
class Aim:
    """What a run wants.

    Attributes:
        objectives: Names of what is maximised.
        constraints: Least mean of a metric by its name: a number, or the name of the source whose mean it is.
        scalarization: How several objectives become one; ``None`` leaves them several.
        added: The columns that the task itself has not, by name.
    """

    objectives: tuple[str, ...]
    constraints: Mapping[str, float | str]
    scalarization: Scalarization | None
    added: Mapping[str, Column]

    @property
    def fitness_names(self) -> tuple[str, ...]:
        """What an optimizer is told of a candidate: the objectives, or the one number that they become."""
        return self.objectives if self.scalarization is None else (self.scalarization.name,)

    @property
    def n_told(self) -> int:
        """How many numbers that are."""
        return len(self.fitness_names)

    def in_words(self) -> str:
        """What is maximised, and what must be kept."""
        wanted = ", ".join(self.objectives)
        if self.scalarization is not None:
            wanted = f"{self.scalarization.name} of {wanted}"
        bounds = [f"{name} at least {f'that of {b}' if isinstance(b, str) else b}" for name, b in self.constraints.items()]
        return f"{wanted}; {', '.join(bounds)}" if bounds else wanted

    def judged(
        self, recipe: Recipe, evaluation: Evaluation, sources: Mapping[str, Recipe], references: References
    ) -> Evaluation:
        """An evaluation by the task with the aim's columns, the objectives first, and what the aim makes of them.

        Args:
            recipe: Of the candidate.
            evaluation: By the task alone.
            sources: The sources' recipes by name.
            references: Their evaluations by the task alone.
        """
        judged = self._widened(recipe, evaluation, references)
        if judged.failure is None:
            asked = (*self.objectives, *self.constraints)
            if unasked := [name for name in asked if not len(judged.column(name))]:
                judged = replace(judged, failure=f"no problem that was asked is one of '{unasked[0]}'", completions=())
        if judged.failure is not None:
            scores = np.zeros((0, len(judged.metrics)))
            return replace(judged, scores=scores, scalar=None if self.scalarization is None else -math.inf)
        scalar = None if self.scalarization is None else self.scalarization(self.objectives, judged.objectives)
        violation = 0.0
        for name, bound in self.constraints.items():
            if isinstance(bound, str):
                least = self._widened(sources[bound], references(bound), references).means[name]
            else:
                least = float(bound)
            violation += _missed(judged.means[name], least)
        return replace(judged, scalar=scalar, violation=violation)

    def _widened(self, recipe: Recipe, evaluation: Evaluation, references: References) -> Evaluation:
        known = tuple(dict.fromkeys((*evaluation.metrics, *self.added)))
        metrics = tuple(dict.fromkeys((*self.objectives, *known)))
        n = len(self.objectives)
        if evaluation.failure is not None:
            return replace(evaluation, metrics=metrics, n_objectives=n)
        columns = {name: evaluation.scores[:, i] for i, name in enumerate(evaluation.metrics)}
        # What a study had judged already has the columns, and no longer knows which answers were written.
        missing = {name: column for name, column in self.added.items() if name not in columns}
        columns |= {name: column(recipe, evaluation, references) for name, column in missing.items()}
        return replace(
            evaluation, metrics=metrics, n_objectives=n, scores=np.stack([columns[name] for name in metrics], axis=1)
        )


def _missed(value: float, least: float) -> float:
    """By how much of the bound it is missed, so that characters and fractions can be summed; of a bound of 0, by how much."""
    return max(0.0, least - value) / (abs(least) or 1.0)


def aim_of(
    task_metrics: Sequence[str],
    task_objectives: Sequence[str],
    objectives: Sequence[str] | None,
    constraints: Mapping[str, float | str],
    scalarization: Scalarization | None,
    sources: Sequence[str],
    n_sources: int,
    starts: Sequence[Recipe],
) -> Aim:
    """Make sense of what the user named.

    Args:
        task_metrics: Metrics that the task has.
        task_objectives: Which of them it maximises where the user names none.
        objectives: Names; ``None`` is the task's own.
        constraints: Least mean by name, a number or a source's name.
        scalarization: How several objectives become one, or ``None``.
        sources: Names of the sources that can be asked.
        n_sources: How many there are to merge.
        starts: The recipe of every gene at its start, of every space, which tells what kinds of recipes there will be.

    Raises:
        ConfigError: A name that there is not, or a bound that cannot be.
    """
    wanted = tuple(task_objectives) if objectives is None else tuple(objectives)
    if not wanted:
        raise ConfigError("objectives is empty; name at least one, or null for the task's own")
    if twice := [name for name in wanted if wanted.count(name) > 1]:
        raise ConfigError(f"objectives names '{twice[0]}' twice")
    added = {}
    for option, names in (("objectives", wanted), ("constraints", tuple(constraints))):
        for name in names:
            if name not in task_metrics:
                added[name] = _built_in(option, name, task_metrics, sources, n_sources, starts)
    for name, bound in constraints.items():
        _check_bound(name, bound, sources)
    if scalarization is not None:
        if len(wanted) == 1:
            raise ConfigError(f"scalarize makes one number of several objectives, and there is one ({wanted[0]}); leave it out")
        scalarization(wanted, np.zeros(len(wanted)))  # refuses weights of what is no objective
    return Aim(wanted, dict(constraints), scalarization, added)


def _check_bound(name: str, bound: object, sources: Sequence[str]) -> None:
    if isinstance(bound, str):
        if bound not in sources:
            raise ConfigError(
                f"constraints: '{name}' must be at least a number or a source's score, got '{bound}'; {nearest(bound, sources)}"
            )
        if name.startswith("kept/"):
            raise ConfigError(f"constraints: '{name}' compares with a source already; give a number")
    elif isinstance(bound, bool) or not isinstance(bound, int | float) or not math.isfinite(bound):
        raise ConfigError(f"constraints: '{name}' must be at least a number or a source's score, got {bound!r}")


def _built_in(
    option: str, name: str, task_metrics: Sequence[str], sources: Sequence[str], n_sources: int, starts: Sequence[Recipe]
) -> Column:
    kind, _, rest = name.partition("/")
    if name == "brevity":
        return _brevity
    if kind == "in_language":
        if rest not in languages.known_languages():
            raise ConfigError(f"{option}: '{name}' must name a language by its code, such as in_language/ja")
        return lambda recipe, evaluation, references: _in_language(evaluation, rest)
    if kind == "kept":
        source, _, metric = rest.partition("/")
        if source not in sources or metric not in task_metrics:
            raise ConfigError(
                f"{option}: '{name}' must be kept/<source>/<metric>, with a source of {', '.join(sources)} and a metric of "
                f"{', '.join(task_metrics)}"
            )
        return lambda recipe, evaluation, references: _kept(evaluation, references(source), metric)
    if name in ("sparsity", "few_sources"):
        if any(isinstance(start, DataFlowRecipe) for start in starts):
            raise ConfigError(f"{option}: '{name}' is a number of mixed weights, and there are recipes that are paths")
        if name == "few_sources":
            return _few_sources
        return lambda recipe, evaluation, references: _sparsity(recipe, evaluation, n_sources)
    patterns = ["brevity", "in_language/<code>", "kept/<source>/<metric>", "sparsity", "few_sources"]
    raise ConfigError(
        f"{option}: there is no '{name}'; the task has {', '.join(task_metrics)}, and any task has {', '.join(patterns)}"
    )


def _brevity(recipe: Recipe, evaluation: Evaluation, references: References) -> NDArray[np.float64]:
    return _of_written(evaluation, lambda text: -float(len(text)))


def _in_language(evaluation: Evaluation, code: str) -> NDArray[np.float64]:
    return _of_written(evaluation, lambda text: float(languages.probability(text, code) > _PROBABLE_ENOUGH))


def _of_written(evaluation: Evaluation, measure: Callable[[str], float]) -> NDArray[np.float64]:
    """``(n_examples,)``; nan where the model wrote nothing itself."""
    texts = evaluation.completions
    written = (True,) * len(texts) if evaluation.written is None else evaluation.written
    return np.asarray([measure(text) if own else math.nan for text, own in zip(texts, written, strict=True)])


def _kept(evaluation: Evaluation, reference: Evaluation, metric: str) -> NDArray[np.float64]:
    own, its = (each.scores[:, each.metrics.index(metric)] for each in (evaluation, reference))
    return np.asarray(1 - np.maximum(0.0, its - own), dtype=np.float64)


def _sparsity(recipe: Recipe, evaluation: Evaluation, n_sources: int) -> NDArray[np.float64]:
    assert isinstance(recipe, ParameterSpaceRecipe), "refused for others when the run was composed"
    kept = 0.0  # of all the sources' changes; a source that the recipe does not name keeps none
    for rule in recipe.parameters:
        weights = _per_source(rule.values.get("weight", 1.0), len(recipe.sources))
        densities = _per_source(rule.values.get("density", 1.0), len(recipe.sources))
        kept += sum(density for weight, density in zip(weights, densities, strict=True) if weight != 0)
    return np.full(len(evaluation.scores), 1 - kept / (len(recipe.parameters) * n_sources))


def _few_sources(recipe: Recipe, evaluation: Evaluation, references: References) -> NDArray[np.float64]:
    assert isinstance(recipe, ParameterSpaceRecipe), "refused for others when the run was composed"
    used = 0
    for i in range(len(recipe.sources)):
        weights = (_per_source(rule.values.get("weight", 1.0), len(recipe.sources))[i] for rule in recipe.parameters)
        used += any(weight != 0 for weight in weights)
    return np.full(len(evaluation.scores), -float(used))


def _per_source(values: tuple[float, ...] | float, n_sources: int) -> tuple[float, ...]:
    return values if isinstance(values, tuple) else (values,) * n_sources
