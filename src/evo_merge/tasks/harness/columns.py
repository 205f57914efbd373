"""From the harness' tasks and groups to a run's metrics and objectives."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evo_merge.errors import ConfigError
from evo_merge.tasks.harness.loading import Aggregate, Unit
from evo_merge.tasks.harness.metrics import Metric, metrics_of
from evo_merge.tasks.harness.requests import Asked


@dataclass(frozen=True, slots=True)
class Column:
    """One of a run's metrics.

    Attributes:
        name: ``acc``; of several tasks or groups ``<task>/acc``.
        metrics: By harness task, whose problems have it.
        by_size: Whether a group's tasks count by their numbers of problems.
        is_objective: Whether a search maximises it unless told otherwise.
    """

    name: str
    metrics: Mapping[str, Metric]
    by_size: bool
    is_objective: bool


def columns_of(units: Sequence[Unit], wanted: str | None, first: Callable[[str], tuple[Any, Asked]]) -> tuple[Column, ...]:
    """The metrics of all units, the objectives first.

    Args:
        units: Tasks and groups.
        wanted: Which metric is the objective of each, by our name, or as the harness' results have it, ``acc,none``;
            ``None`` is its first.
        first: A problem of a task by the task's name, to see what its code gives.

    Raises:
        ConfigError: A unit has no metric, or not the wanted one.
    """
    found: list[Column] = []
    for unit in units:
        metrics = {task.task_name: metrics_of(task, *first(task.task_name)) for task in unit.tasks}
        own = _averaged(unit, metrics) if unit.aggregates else _of_task(metrics)
        prefix = f"{unit.name}/" if len(units) > 1 else ""
        chosen = _plain(wanted, metrics) if wanted else next(iter(own))
        if chosen not in own:
            raise ConfigError(f"task.metric: harness task '{unit.name}' has no metric '{chosen}', only {', '.join(own)}")
        found += [Column(f"{prefix}{name}", each, by_size, name == chosen) for name, (each, by_size) in own.items()]
    return tuple(sorted(found, key=lambda column: not column.is_objective))


def _plain(wanted: str, metrics: Mapping[str, tuple[Metric, ...]]) -> str:
    """Our name of a metric that may be named with its filter, as in the harness' results."""
    key, comma, filter_name = wanted.partition(",")
    named = [each.name for own in metrics.values() for each in own if (each.key, each.filter) == (key, filter_name)]
    return named[0] if comma and named else wanted


def _of_task(metrics: Mapping[str, tuple[Metric, ...]]) -> dict[str, tuple[dict[str, Metric], bool]]:
    return {metric.name: ({task: metric}, True) for task, own in metrics.items() for metric in own}


def _averaged(unit: Unit, metrics: Mapping[str, tuple[Metric, ...]]) -> dict[str, tuple[dict[str, Metric], bool]]:
    """The metrics that a group says it averages, of those of its tasks that have them."""
    found: dict[str, tuple[dict[str, Metric], bool]] = {}
    for aggregate in unit.aggregates:
        for task, own in metrics.items():
            for metric in own:
                if _is_of(aggregate, metric):
                    found.setdefault(metric.name, ({}, aggregate.by_size))[0].setdefault(task, metric)
    if not found:
        wanted = ", ".join(aggregate.metric for aggregate in unit.aggregates)
        raise ConfigError(f"harness group '{unit.name}' averages {wanted}, which none of its tasks has as a mean over problems")
    return found


def _is_of(aggregate: Aggregate, metric: Metric) -> bool:
    return metric.key == aggregate.metric and (aggregate.filters is None or metric.filter in aggregate.filters)
