"""Which models the config of a pool names, and in what order (``conf/models/*.yaml``)."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from evo_merge.errors import ConfigError
from evo_merge.models.model import Model
from evo_merge.recipe import ModelReference, Source
from evo_merge.recipe_file import reference_from_record


def named_source(entry: str | Mapping[str, Any], adapters: str | None) -> Source:
    """A source of the config under its name, which may be the last part of where it lies.

    Args:
        entry: A name, or a mapping with ``name`` and what names a model.
        adapters: Folder in which adapters named by a relative path are looked for.

    Raises:
        ConfigError: A recipe without a name.
        RecipeError: The entry names no model.
    """
    if isinstance(entry, str):
        return Source(Path(entry).name, ModelReference(model=entry))
    fields = dict(entry)
    name = fields.pop("name", None)
    reference = reference_from_record(fields)
    if reference.adapter is not None and adapters is not None and not Path(reference.adapter).expanduser().is_absolute():
        reference = ModelReference(adapter=str(Path(adapters) / reference.adapter), base=reference.base)
    if name is None and reference.recipe is not None:
        raise ConfigError("models.sources: a recipe needs a name: {name: …, recipe: FILE}")
    return Source(str(name) if name is not None else Path(reference.adapter or reference.model).name, reference)


def used(named: Sequence[Source], use: Sequence[str] | None) -> Sequence[Source]:
    """The sources of those names, ``None`` for all; raises ``ConfigError`` where there are none, or two of one name."""
    names = [source.name for source in named]
    if not names:
        raise ConfigError("models.sources is empty; name at least one model")
    if len(set(names)) != len(names):
        raise ConfigError(f"models.sources needs different names, got {', '.join(names)}; write {{name: …, model: …}}")
    if use is None:
        return named
    if not use:
        raise ConfigError(f"models.use is empty; name at least one of {', '.join(names)}, or null for all")
    if unknown := [name for name in use if name not in names]:
        raise ConfigError(f"models.use: there is no source '{unknown[0]}'; there are {', '.join(names)}")
    return [source for source in named if source.name in use]


def in_path_order(sources: Sequence[Model], order: Sequence[str], left_out: Collection[str]) -> tuple[Model, ...]:
    """The sources that a layer path runs through, model A first.

    Args:
        sources: Of the pool.
        order: Their names under ``models.data_flow``.
        left_out: Names of the sources that ``models.licences`` left out.

    Raises:
        ConfigError: An unknown name, the same one twice, or fewer than two.
    """
    by_name = {source.name: source for source in sources}
    if unknown := [name for name in order if name not in by_name]:
        why = " (models.licences=permissive leaves it out)" if unknown[0] in left_out else ""
        raise ConfigError(f"models.data_flow: there is no source '{unknown[0]}'{why}; there are {', '.join(by_name)}")
    if len(set(order)) < max(2, len(order)):
        got = ", ".join(order) or "none"
        got += f" (models.licences=permissive leaves out {', '.join(left_out)})" if left_out else ""
        raise ConfigError(
            f"merge=dfs runs through the layers of two models or more, got {got}; "
            "name each once, model A first: 'models.data_flow=[a,b]'"
        )
    return tuple(by_name[name] for name in order)
