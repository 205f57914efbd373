"""Tasks and groups of the harness by name: its own and those of the user's folders."""

import difflib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evo_merge.errors import ConfigError, DataError


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A metric that a group averages over its tasks.

    Attributes:
        metric: The harness' name of it.
        filters: Of which filters' results; ``None`` is all.
        by_size: Whether a task counts by its number of problems (a mean over all problems), or as much as any other.
    """

    metric: str
    filters: tuple[str, ...] | None
    by_size: bool


@dataclass(frozen=True, slots=True)
class Unit:
    """What has one objective: a task, or a group that says how its tasks are averaged.

    Attributes:
        name: As the harness calls it.
        tasks: Its tasks, ``lm_eval.api.task.ConfigurableTask``; of a task itself.
        aggregates: What a group averages; none for a task.
    """

    name: str
    tasks: tuple[Any, ...]
    aggregates: tuple[Aggregate, ...] = ()


def load_units(names: Sequence[str], folders: Sequence[str]) -> tuple[Unit, ...]:
    """Load tasks with their data.

    Args:
        names: Of tasks, groups and tags, or the path of a task's YAML. Groups that do not say how they are averaged, and tags,
            stand for their tasks.
        folders: Searched for YAMLs before the harness' own. Where they hold everything, its 14,000 files are not read, which
            takes ten seconds.

    Raises:
        ConfigError: The harness is not installed, a folder or a name does not exist, or a task cannot be asked here.
        DataError: A task's data cannot be had.
    """
    for folder in folders:
        if not Path(folder).expanduser().is_dir():
            raise ConfigError(f"task.include_path: there is no folder '{folder}' (looked from {Path.cwd()})")
    manager = _manager(names, [str(Path(folder).expanduser()) for folder in folders])
    units = tuple(unit for name in names for unit in _units(manager, name))
    seen: dict[str, str] = {}
    for unit in units:
        for task in unit.tasks:
            _refuse_unaskable(task)
            if task.task_name in seen:
                raise ConfigError(
                    f"task.names: the harness task '{task.task_name}' is in both '{seen[task.task_name]}' and '{unit.name}'; "
                    "name it once"
                )
            seen[task.task_name] = unit.name
    return units


def _manager(names: Sequence[str], folders: list[str]) -> Any:
    try:
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise ConfigError(
            f"task=lm_eval needs lm-evaluation-harness ({error}): pip install -c constraints.txt -e '.[harness]'"
        ) from error
    # It warns of every default that a YAML leaves out, and of thousands of its own names.
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    manager = TaskManager(include_path=folders, include_defaults=False)
    if not all(_is_known(manager, name) or Path(name).is_file() for name in names):
        manager = TaskManager(include_path=folders)
    for name in names:
        if name in manager.task_index or Path(name).is_file():
            continue
        near = difflib.get_close_matches(name, manager.all_tasks, n=3, cutoff=0.6)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise ConfigError(
            f"task.names: the harness has no task, group or tag '{name}'; {hint}the folder of your own task YAMLs is named by "
            "task.include_path=DIR"
        )
    return manager


def _is_known(manager: Any, member: str | Mapping[str, Any]) -> bool:
    """Whether a task, or a group with all its members, is in what has been read."""
    if not isinstance(member, str):
        name = member.get("group") or member.get("task")
        if name in manager.task_index:
            return _is_known(manager, str(name))
        inside = member.get("task")  # of a group, or of a task, that is defined where it is named
        return all(_is_known(manager, each) for each in inside) if isinstance(inside, list) else "dataset_path" in member
    entry = manager.task_index.get(member)
    if entry is None:
        return False
    inside = entry.cfg.get("task") if entry.kind.name == "GROUP" and entry.cfg else None
    return not isinstance(inside, list) or all(_is_known(manager, each) for each in inside)


def _units(manager: Any, name: str) -> list[Unit]:
    import datasets

    was_shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        found = manager.load([name])
    except Exception as error:  # of the harness, datasets, the hub or a task's own code: the way out is the same
        raise DataError(_not_loaded(manager, name, error)) from error
    finally:
        if was_shown:
            datasets.enable_progress_bars()
    group = found["groups"].get(name)
    if group is None or not group.has_aggregation:
        return [Unit(task.task_name, (task,)) for task in found["tasks"].values()]
    aggregates = tuple(
        Aggregate(each.metric, None if each.filter_list is None else tuple(each.filter_list), bool(each.weight_by_size))
        for each in group.aggregate_metric_list
    )
    return [Unit(name, tuple(found["tasks"].values()), aggregates)]


def _not_loaded(manager: Any, name: str, error: Exception) -> str:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    entry = manager.task_index.get(name)
    path = (entry.cfg or {}).get("dataset_path") if entry is not None else None
    said = f"harness task '{name}' cannot be loaded ({type(error).__name__}: {reason})"
    if isinstance(error, ImportError):
        return f"{said}; install what it needs"
    if path in ("json", "csv", "parquet", "text"):
        return f"{said}; the files of its dataset_kwargs are looked for from {Path.cwd()}"
    data = f"dataset '{path}'" if path else "its data"
    return (
        f"{said}; where {data} cannot be fetched, give it locally: copy the task's YAML to a folder of your own, set in it "
        "dataset_path: json and dataset_kwargs: {data_files: {test: FILE.jsonl}}, and name the folder: task.include_path=DIR"
    )


def _refuse_unaskable(task: Any) -> None:
    from lm_eval.api.task import ConfigurableTask

    said = f"harness task '{task.task_name}'"
    if not isinstance(task, ConfigurableTask):
        raise ConfigError(f"{said} is not made from a YAML ({type(task).__name__}), and task=lm_eval takes only those that are")
    if getattr(task, "UNSAFE_CODE", False):
        raise ConfigError(f"{said} runs code that models write, which evo-merge does not")
    if getattr(task, "MULTIMODAL", False):
        raise ConfigError(f"{said} shows images or plays sounds, and candidates only read")
