"""What a hybrid's config may say of its stages and pairs: anything else is refused before a weight is read."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evo_merge.errors import ConfigError
from evo_merge.genome import Gene
from evo_merge.optimizers.base import Optimizer
from evo_merge.search import Budget
from evo_merge.spaces.base import Ingredients, MergeSpace
from evo_merge.tasks.base import Task

NewOptimizer = Callable[[Sequence[Gene], int], Optimizer]
NewSpace = Callable[[Ingredients, int], MergeSpace]


@dataclass(frozen=True)
class ParameterStage:
    """One search in parameter space, as a hybrid's config composes it; ``None`` is what the run itself has."""

    space: NewSpace
    optimizer: NewOptimizer | None
    task: Task | None
    budget: Budget | None


def parameter_stage(name: str, options: Any) -> ParameterStage:
    """One of ``merge.parameter``; raises ``ConfigError`` where it is none."""
    where = f"merge.parameter.{name}"
    if not isinstance(options, Mapping):
        raise ConfigError(f"{where} must have options such as {where}.budget.evaluations=50, got {options!r}; leave it out")
    known = ("space", "optimizer", "task", "budget")
    if unknown := [key for key in options if key not in known]:
        raise ConfigError(f"merge.parameter.{name}: there is no option '{unknown[0]}'; there are {', '.join(known)}")
    if "space" not in options:
        raise ConfigError(f"merge.parameter.{name}.space is missing: +merge@merge.parameter.{name}.space=dare_ties")
    budget, task = options.get("budget"), options.get("task")
    if task is not None and not hasattr(task, "examples"):
        raise ConfigError(f"{where}.task must be a task: +task@{where}.task=question_answer; got {task!r}")
    return ParameterStage(
        space=part(options["space"], f"{where}.space", "merge"),
        optimizer=None if options.get("optimizer") is None else part(options["optimizer"], f"{where}.optimizer", "optimizer"),
        task=task,
        budget=None if budget is None else own_budget(f"merge.parameter.{name}.budget", budget),
    )


def part(value: Any, where: str, group: str) -> Any:
    """A part that the config composes and the program finishes; raises ``ConfigError`` for anything else."""
    if not callable(value):
        raise ConfigError(
            f"{where} must be one of the choices of {group}=, with {where}._partial_=true: "
            f"{group}@{where}=<choice> (with + before it where there is none yet); got {value!r}"
        )
    return value


def own_budget(where: str, limits: Any) -> Budget:
    """A budget that is not the run's; raises ``ConfigError`` where it is none."""
    if not isinstance(limits, Mapping):
        raise ConfigError(f"{where} must have limits such as {where}.evaluations=50, got {limits!r}")
    known = ("evaluations", "generations", "patience")
    if "minutes" in limits:
        raise ConfigError(f"{where} takes no minutes; budget.minutes is for the whole run")
    if unknown := [key for key in limits if key not in known]:
        raise ConfigError(f"{where}: there is no limit '{unknown[0]}'; there are {', '.join(known)}")
    if odd := [key for key, value in limits.items() if value is not None and not _is_count(value)]:
        raise ConfigError(f"{where}.{odd[0]} must be a whole number above 0 or null, got {limits[odd[0]]!r}")
    try:
        return Budget(**limits)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def checked_pairs(pairs: Sequence[Sequence[str]] | None, names: Sequence[str]) -> list[tuple[str, str]]:
    """``merge.pairs``, or all ordered pairs; raises ``ConfigError`` where one is none or there twice."""
    if pairs is None:
        return list(itertools.permutations(names, 2))
    checked = []
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or pair[0] == pair[1]:
            raise ConfigError(f"merge.pairs: a pair is two different names, [a, b], got {pair}")
        if unknown := [name for name in pair if name not in names]:
            raise ConfigError(f"merge.pairs: there is no model '{unknown[0]}'; there are {', '.join(names)}")
        checked.append((str(pair[0]), str(pair[1])))
    if not checked or len(set(checked)) != len(checked):
        raise ConfigError("merge.pairs must name at least one pair, and none twice; null is all of them")
    return checked


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
