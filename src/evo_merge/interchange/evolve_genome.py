"""The genome YAML of mergekit-evolve (mergekit 0.1.5, ``mergekit/evo``) as frozen records: what stands in the file, checked."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from evo_merge.command_line import nearest
from evo_merge.interchange.document import Document, Place
from evo_merge.interchange.mergekit_config import model_named
from evo_merge.recipe import ModelReference
from evo_merge.tokenizer_rule import BASE, UNION

METHODS: Final = ("linear", "task_arithmetic", "ties", "dare_ties", "slerp")
WITH_BASE: Final = ("task_arithmetic", "ties", "dare_ties")
_KEYS: Final = (
    "genome",
    "tasks",
    "limit",
    "num_fewshot",
    "shuffle",
    "random_init",
    "apply_chat_template",
    "fewshot_as_multiturn",
)
_GENOME: Final = (
    "models",
    "merge_method",
    "base_model",
    "tokenizer_source",
    "layer_granularity",
    "normalize",
    "allow_negative_weights",
    "filters",
    "smooth",
)
_TOP = re.compile(r"^genome\s*:", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class EvolveTask:
    """A task of lm-evaluation-harness and what it counts.

    Attributes:
        name: The harness' name.
        weight: What its score is multiplied by; below 0 where lower is better.
        metric: The harness' name of it.
        filter: Of which filter's results.
    """

    name: str
    weight: float
    metric: str
    filter: str


@dataclass(frozen=True, slots=True)
class EvolveGenome:
    """A whole file, with mergekit-evolve's defaults.

    Attributes:
        document: The file.
        models: What is merged; where the method takes a base, without it.
        names_base: Whether the file lists the base among the models.
        method: Name of the merge method.
        base: ``base_model``; ``None`` where the method takes none.
        tokenizer_source: ``base``, ``union``, or a model.
        layers: ``layer_granularity``; ``None`` where one set of genes is for all layers.
        normalize: What it is, or would be by default.
        negative: ``allow_negative_weights``.
        filters: Parts of tensors' names.
        smooth: Whether the numbers of a group of layers are points of a gradient.
        tasks: What is asked.
        limit: Problems of each task.
        num_fewshot: Shots.
        shuffle: Whether problems are shuffled before the limit.
        random_init: Whether the search begins at a random point.
        chat_template: ``apply_chat_template``.
        multiturn: ``fewshot_as_multiturn``.
    """

    document: Document
    models: tuple[ModelReference, ...]
    names_base: bool
    method: str
    base: ModelReference | None
    tokenizer_source: str | ModelReference | None
    layers: int | None
    normalize: bool
    negative: bool
    filters: tuple[str, ...]
    smooth: bool
    tasks: tuple[EvolveTask, ...]
    limit: int | None
    num_fewshot: int | None
    shuffle: bool
    random_init: bool
    chat_template: bool
    multiturn: bool


def is_genome(text: str) -> bool:
    """Whether a YAML is a genome of mergekit-evolve."""
    return bool(_TOP.search(text))


def parse(document: Document, folder: Path | None = None) -> EvolveGenome:
    """Read a file's records.

    Args:
        document: The file.
        folder: Where relative folders are looked for that do not exist in the working directory.

    Raises:
        RecipeError: With file and line: an unknown key, a wrong value, or what mergekit-evolve would refuse, too.
    """
    fields = document.mapping(document.value, (), _KEYS)
    genome = document.mapping(fields.get("genome"), ("genome",), _GENOME)
    method = str(genome.get("merge_method"))
    if method not in METHODS:
        raise document.error(
            ("genome", "merge_method"), f"mergekit-evolve has no merge_method '{method}'; {nearest(method, METHODS)}"
        )
    models = tuple(
        model_named(document, each, ("genome", "models", number), folder)
        for number, each in enumerate(document.list_of(genome.get("models"), ("genome", "models")))
    )
    place = ("genome", "base_model")
    base = None if genome.get("base_model") is None else model_named(document, genome["base_model"], place, folder)
    if base is None and method in WITH_BASE:
        raise document.error(("genome", "merge_method"), f"'{method}' needs a base_model")
    base = base if method in WITH_BASE else None
    smooth = _flag(document, genome, ("genome", "smooth"), default=False)
    filters = _filters(document, genome)
    if method == "slerp":
        _check_slerp(document, models, is_plain=not smooth and not filters)
    layers = _whole(document, genome, ("genome", "layer_granularity"), least=-1)
    sources = tuple(model for model in models if model != base)
    if not sources:
        raise document.error(("genome", "models"), "the base is the only model; name what was tuned from it")
    return EvolveGenome(
        document=document,
        models=sources,
        names_base=len(sources) < len(models),
        method=method,
        base=base,
        tokenizer_source=_tokenizer_source(document, genome, folder),
        layers=layers if layers is not None and layers > 0 else None,
        normalize=_flag(document, genome, ("genome", "normalize"), default=method in ("ties", "dare_ties", "linear")),
        negative=_flag(document, genome, ("genome", "allow_negative_weights"), default=False),
        filters=filters,
        smooth=smooth,
        tasks=_tasks(document, fields.get("tasks")),
        limit=_whole(document, fields, ("limit",), least=1),
        num_fewshot=_whole(document, fields, ("num_fewshot",), least=0),
        shuffle=_flag(document, fields, ("shuffle",), default=False),
        random_init=_flag(document, fields, ("random_init",), default=False),
        chat_template=_flag(document, fields, ("apply_chat_template",), default=True),
        multiturn=_flag(document, fields, ("fewshot_as_multiturn",), default=True),
    )


def _tokenizer_source(document: Document, genome: Mapping[str, Any], folder: Path | None) -> str | ModelReference | None:
    source = genome.get("tokenizer_source")
    if source is None or source in (BASE, UNION):
        return source
    return model_named(document, source, ("genome", "tokenizer_source"), folder)


def _check_slerp(document: Document, models: tuple[ModelReference, ...], *, is_plain: bool) -> None:
    if not is_plain:
        raise document.error(
            ("genome", "merge_method"), "mergekit-evolve has neither filters nor smooth for slerp; leave them out"
        )
    if len(models) != 2:
        raise document.error(
            ("genome", "models"),
            f"of {len(models)} models slerp would take the two with the greatest genes in every group of layers, which is not "
            "searched here; name two, or take merge=multislerp for all of them",
        )


def _filters(document: Document, genome: Mapping[str, Any]) -> tuple[str, ...]:
    value, place = genome.get("filters"), ("genome", "filters")
    if value is None:
        return ()
    filters = document.list_of(value, place)
    for number, each in enumerate(filters):
        if not isinstance(each, str) or not each:
            raise document.error((*place, number), f"a filter is a part of tensors' names, as self_attn, got {each!r}")
    return tuple(dict.fromkeys(filters))


def _tasks(document: Document, value: Any) -> tuple[EvolveTask, ...]:
    tasks = []
    for number, entry in enumerate(document.list_of(value, ("tasks",))):
        place: Place = ("tasks", number)
        fields = {"name": entry} if isinstance(entry, str) else document.mapping(entry, place, ("name", "weight", "metric"))
        if not isinstance(fields.get("name"), str):
            raise document.error(place, "a task needs the name that lm-evaluation-harness knows it by")
        weight = fields.get("weight", 1.0)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight) or weight == 0:
            raise document.error((*place, "weight"), f"'weight' must be a number other than 0, got {weight!r}")
        metric, _, filter_name = str(fields.get("metric", "acc,none")).partition(",")
        tasks.append(EvolveTask(fields["name"], float(weight), metric, filter_name or "none"))
    return tuple(tasks)


def _flag(document: Document, fields: Mapping[str, Any], place: Place, *, default: bool) -> bool:
    value = fields.get(str(place[-1]))
    if value is not None and not isinstance(value, bool):
        raise document.error(place, f"'{place[-1]}' must be true or false, got {value!r}")
    return default if value is None else value


def _whole(document: Document, fields: Mapping[str, Any], place: Place, *, least: int) -> int | None:
    value = fields.get(str(place[-1]))
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
        raise document.error(place, f"'{place[-1]}' must be a whole number of at least {least}, got {value!r}")
    return value
