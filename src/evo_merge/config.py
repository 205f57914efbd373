"""Does the composed config fit the program? All problems in one report, before any weight is read."""

import inspect
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.utils import get_object
from omegaconf import MISSING, DictConfig, OmegaConf

from evo_merge.command_line import nearest
from evo_merge.errors import ConfigError
from evo_merge.portions import SUBSETS
from evo_merge.racing.rules import Rules

SELECTIONS = ("search", "validation")
EXPORTS = ("best", "front")
_LISTS = (Sequence, list, tuple)  # collections.abc, which is what typing.get_origin gives
_MAPPINGS = (Mapping, dict)
_HINTS = {
    "models.sources": "choose a pool with models=<name>, or name your own: models.base=DIR 'models.sources=[DIR,DIR]'",
    "task.parts": "name two tasks or more: '+task@task.parts.ja=tiny_ja_math' '+task@task.parts.en=tiny_en_math'",
    "task.names": "name tasks of lm-evaluation-harness: 'task.names=[my_task]', your own with task.include_path=DIR",
    "task.data": "name the folder that holds the files of the tasks: task.data=DIR",
    "models.adapters": "name the folder that holds the LoRA adapters: models.adapters=DIR",
}


@dataclass
class BudgetSettings:
    """``budget`` in ``conf/config.yaml``."""

    evaluations: int | None = None
    generations: int | None = None
    minutes: float | None = None
    patience: int | None = None


@dataclass
class EvaluationSettings:
    """``evaluation`` in ``conf/config.yaml``."""

    batch: int | None = None
    subset: str = "fresh"
    racing: Any = None  # true, or a mapping of some of the rules
    reuse: Any = None  # a run folder, or several

    @property
    def reused(self) -> list[str]:
        """Folders of the runs whose answers are taken over."""
        return [] if self.reuse is None else [self.reuse] if isinstance(self.reuse, str) else list(self.reuse)

    @property
    def race(self) -> Rules | None:
        """Rules of the race, or ``None`` where all candidates are asked everything."""
        if self.racing in (None, False):
            return None
        return Rules(**({} if self.racing is True else self.racing))


@dataclass
class RunSettings:
    """The run's own few numbers: what ``conf/config.yaml`` holds beside the parts."""

    seed: int = 1
    selection: str = "search"
    plan: bool = False
    resume: str | None = None
    allow_code: list[str] = field(default_factory=list)
    budget: BudgetSettings = field(default_factory=BudgetSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    export: str = "best"
    objectives: list[str] | None = None
    constraints: dict[str, Any] | None = None


def run_settings(config: DictConfig) -> RunSettings:
    """The typed numbers of a composed config; raises ``ConfigError``, or OmegaConf's own where a type is wrong."""
    names = [name for name in RunSettings.__dataclass_fields__ if name in config]
    if not OmegaConf.is_list(config.get("objectives", [])) and config.objectives is not None:
        raise ConfigError(f"objectives must be a list, got '{config.objectives}': 'objectives=[{config.objectives}]'")
    if not OmegaConf.is_dict(config.get("constraints", {})) and config.constraints is not None:
        raise ConfigError(
            f"constraints must name what each is at least, got '{config.constraints}': 'constraints={{accuracy: 0.5}}'"
        )
    merged = OmegaConf.merge(OmegaConf.structured(RunSettings), {name: config[name] for name in names})
    settings = typing.cast(RunSettings, OmegaConf.to_object(merged))
    if settings.selection not in SELECTIONS:
        raise ConfigError(f"selection must be one of {', '.join(SELECTIONS)}, got '{settings.selection}'")
    if settings.export not in EXPORTS:
        raise ConfigError(f"export must be one of {', '.join(EXPORTS)}, got '{settings.export}'")
    if settings.seed < 0:
        raise ConfigError(f"seed must be 0 or above, got {settings.seed}")
    _check_evaluation(settings)
    return settings


def _check_evaluation(settings: RunSettings) -> None:
    evaluation = settings.evaluation
    if evaluation.subset not in SUBSETS:
        raise ConfigError(f"evaluation.subset must be one of {', '.join(SUBSETS)}, got '{evaluation.subset}'")
    if evaluation.batch is None:
        if evaluation.subset != SUBSETS[0]:
            raise ConfigError(
                f"evaluation.subset={evaluation.subset} chooses evaluation.batch problems, and that is null; set it, for "
                "example evaluation.batch=100"
            )
    elif evaluation.batch < 1:
        raise ConfigError(f"evaluation.batch must be at least 1, got {evaluation.batch}")
    elif evaluation.subset == "fresh" and settings.selection != "validation":
        raise ConfigError(
            "evaluation.batch asks every generation other problems, so that search scores cannot choose between them; "
            "set selection=validation besides, or evaluation.subset=fixed"
        )
    _check_racing(evaluation.racing)
    if not (evaluation.reuse is None or isinstance(evaluation.reuse, str | list)) or not all(
        isinstance(folder, str) for folder in evaluation.reused
    ):
        raise ConfigError(f"evaluation.reuse must be a run folder, a list of them or null, got {evaluation.reuse!r}")


def _check_racing(racing: Any) -> None:
    if racing is None or isinstance(racing, bool):
        return
    rules = Rules.__dataclass_fields__
    if not isinstance(racing, dict):
        raise ConfigError(
            f"evaluation.racing must be true, null or rules such as 'evaluation.racing={{keep: 0.25}}', got {racing!r}"
        )
    for key, value in racing.items():
        if key not in rules:
            raise ConfigError(f"evaluation.racing: there is no rule '{key}'; {nearest(str(key), list(rules))}")
        kind = int if key == "slices" else float
        if not _fits(value, kind):
            raise ConfigError(f"evaluation.racing.{key} must be {_described(kind)}, got {value!r}")
    Rules(**racing)


def check(config: DictConfig, parts: Sequence[str], *, last: Sequence[str] = ()) -> None:
    """Compare every part's yaml with the constructor that it names.

    What stands before the ``*`` of a constructor is handed over by the program, what stands after it is set by the yaml.

    Args:
        config: As it was composed.
        parts: Their keys.
        last: Those of the parts whose classes take seconds to be imported: looked at once the others fit.

    Raises:
        ConfigError: With every key that is missing, unknown or of a wrong type.
    """
    problems = [
        f"{key} is not set; {_HINTS.get(key, f'give it on the command line: {key}=…')}" for key in _missing(config, parts)
    ]
    for group in ([part for part in parts if part not in last], last):
        if not problems:
            found = [_problems(OmegaConf.to_container(config[part], resolve=True), part) for part in group]
            problems = [problem for each in found for problem in each]
    if problems:
        raise ConfigError("; ".join(problems))


def _missing(config: DictConfig, parts: Sequence[str]) -> list[str]:
    # Not OmegaConf's own list of them: it ends at the first option that is taken from a missing one.
    return sorted(key for part in parts if part in config for key in _unset(OmegaConf.to_container(config[part]), part))


def _unset(node: Any, path: str) -> Iterator[str]:
    if node == MISSING:
        yield path
    elif isinstance(node, Mapping):
        for key, child in node.items():
            yield from _unset(child, f"{path}.{key}")


def _problems(node: Any, path: str) -> Iterator[str]:
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield from _target_problems(node, path)
        for key, child in node.items():
            yield from _problems(child, f"{path}.{key}")


def _target_problems(node: Mapping[str, Any], path: str) -> Iterator[str]:
    try:
        target = get_object(node["_target_"])
    except Exception as error:  # noqa: BLE001  whatever the import of a user's class raises
        reason = " ".join(str(error).split())
        yield f"{path}._target_: '{node['_target_']}' cannot be imported ({type(error).__name__}: {reason})"
        return
    parameters = inspect.signature(target).parameters
    hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    given = {key: value for key, value in node.items() if not key.startswith("_")}
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    set_by_yaml = [name for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY]
    known = set_by_yaml or list(parameters)
    for key, value in given.items():
        if key not in known and not takes_any:
            yield f"{path}.{key}: {target.__name__} takes no such key; {nearest(key, known)}"
        elif key in hints and not _fits(value, hints[key]):
            yield f"{path}.{key} must be {_described(hints[key])}, got {value!r}"
    for name in set_by_yaml:
        if name not in given and parameters[name].default is inspect.Parameter.empty:
            yield f"{path}.{name} is missing, and {target.__name__} needs it"


def _fits(value: Any, hint: Any) -> bool:
    """Whether a yaml's value is of a plain type; what is not plain is left to the class."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return any(_fits(value, choice) for choice in typing.get_args(hint))
    if hint is type(None):
        return value is None
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (str, bool):
        return isinstance(value, hint)
    if typing.get_origin(hint) is typing.Literal:
        return value in typing.get_args(hint)
    if typing.get_origin(hint) in _LISTS:
        return isinstance(value, list)
    if typing.get_origin(hint) in _MAPPINGS:
        return isinstance(value, dict)
    return value is not None or hint is Any


def _described(hint: Any) -> str:
    if typing.get_origin(hint) in (typing.Union, types.UnionType, typing.Literal):
        return " or ".join(_described(choice) for choice in typing.get_args(hint))
    if isinstance(hint, str):
        return hint  # of a Literal
    names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", type(None): "null"}
    if typing.get_origin(hint) in _LISTS:
        return "a list"
    if typing.get_origin(hint) in _MAPPINGS:
        return "a mapping"
    return names.get(hint, getattr(hint, "__name__", str(hint)))
