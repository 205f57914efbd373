"""A recipe as a config of mergekit (https://github.com/arcee-ai/mergekit), for those who already build with it."""

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

import yaml

from evo_merge.errors import RecipeError
from evo_merge.interchange.from_mergekit import from_mergekit
from evo_merge.interchange.mergekit_methods import FIRST_BASE, METHODS, OPTION, OPTIONAL_BASE, SHARED, PeerMethod
from evo_merge.interchange.mergekit_stacks import Shape
from evo_merge.interchange.mergekit_tokenizer import means_the_same, mergekit_tokenizer
from evo_merge.interchange.rules import Values
from evo_merge.methods.base import MergeMethod, method_from_recipe
from evo_merge.models.layer_path import head_of, runs
from evo_merge.models.reference import BUILTIN, PACKAGE
from evo_merge.recipe import DataFlowRecipe, ModelReference, ParameterRule, ParameterSpaceRecipe, Recipe, rule_of

_CHANCE: Final = "# mergekit draws chances of its own, so that its masks are others than the recipe's.\n"
_EQUALS: Final = "# Of entries as large as the smallest that is kept, mergekit may keep others than the recipe.\n"
_ROWS: Final = "# mergekit has no rows but those of tokens; the recipe keeps the rows that a model was padded with.\n"
_NUMBERED: Final = re.compile(r"^(?:\w+\.)*?\w+\.(\d+)\.")


def mergekit_yaml(recipe: Recipe, tensors: Sequence[str]) -> str | None:
    """The config with which mergekit makes the same merge, or ``None`` where it cannot.

    Args:
        recipe: What to write.
        tensors: Full names of the merge's tensors.
    """
    if isinstance(recipe, DataFlowRecipe):
        return passthrough_yaml(recipe)
    if recipe.method not in METHODS:
        return None
    values = {name: _filled(method_from_recipe(recipe.method, recipe.options), rule_of(recipe, name)) for name in tensors}
    one_a_tensor = tuple(ParameterRule((name,), values[name]) for name in tensors)
    # Globs that are no parts of names are written out name by name.
    for rules in (recipe.parameters, one_a_tensor):
        text = _mixture(recipe, rules, values)
        if text is None or _reads_back(text, recipe, values):
            return text
    return None


def passthrough_yaml(recipe: DataFlowRecipe) -> str | None:
    """The config with which mergekit puts the same tensors together, or ``None`` where it cannot.

    It can where every scale is 1, the path begins in the first model and ends in that of the head, and every model is a
    folder or a hub id. Lists that a model's own config has for its layers (``layer_types``) it leaves as they are in the first
    model's.
    """
    first = recipe.models[0]
    models = {source.name: _model(source.reference) for source in recipe.models}
    if any(step.scale != 1 for step in recipe.path) or None in models.values():
        return None
    # mergekit takes the embeddings from the model of the first slice, the final norm and the head from that of the last.
    if recipe.path[0].model != first.name or recipe.path[-1].model != head_of(recipe):
        return None
    config = {
        "slices": [
            # The range ends before its second number.
            {"sources": [{"model": models[model], "layer_range": [begin, end + 1]}]}
            for model, begin, end in runs(recipe.path)
        ],
        "merge_method": "passthrough",
        # It takes the config and the tokenizer from here, and without it from any of the models.
        "base_model": models[first.name],
        "dtype": recipe.out_dtype,
    }
    return _written(config)


def _mixture(recipe: ParameterSpaceRecipe, rules: Sequence[ParameterRule], values: Mapping[str, Values]) -> str | None:
    peer, method = METHODS[recipe.method], method_from_recipe(recipe.method, recipe.options)
    models = [_model(source.reference) for source in recipe.sources]
    base = None if recipe.base is None else _model(recipe.base)
    options, tokenizer = _options(peer, method, values), mergekit_tokenizer(recipe, _model)
    is_named = None not in models and (base is None) == (recipe.base is None)
    if not is_named or options is None or tokenizer is None or not _is_neutral(peer, method, values):
        return None
    filled = [ParameterRule(rule.tensors, _filled(method, rule)) for rule in rules]
    named = {setting.our_name: setting for setting in peer.settings if setting.kind != OPTION}

    def settings(place: int, *, shared: bool) -> dict[str, Any]:
        found = {
            setting: _conditions([(rule.tensors, _entry(rule.values[ours], place)) for rule in filled], values)
            for ours, setting in named.items()
            if (setting.kind == SHARED) == shared
        }
        return {setting.name: value for setting, value in found.items() if value != setting.default}

    own, shared = [settings(place, shared=False) for place in range(len(models))], settings(0, shared=True)
    config: dict[str, Any] = {
        "models": [{"model": model} | ({"parameters": each} if each else {}) for model, each in zip(models, own, strict=True)],
        "merge_method": recipe.method,
    }
    if peer.base != OPTIONAL_BASE or method.needs_base:
        # Without one mergekit takes config and tokenizer from any of the models.
        config["base_model"] = models[0] if base is None or peer.base == FIRST_BASE else base
    if shared | options:
        config["parameters"] = shared | options
    config["dtype"] = recipe.dtype
    if recipe.out_dtype != recipe.dtype:
        config["out_dtype"] = recipe.out_dtype
    config |= tokenizer
    is_thinned = any(share < 1.0 for each in values.values() for share in _entries(each.get("density", 1.0)))
    is_random = is_thinned and recipe.method.startswith(("dare", "della"))
    note = _CHANCE if is_random else _EQUALS if is_thinned and getattr(method, "equals", "sorted") != "sorted" else ""
    if recipe.tokenizer is not None and recipe.tokenizer.pad_to_multiple_of is None:
        note += _ROWS
    return note + _written(config)


def _options(peer: PeerMethod, method: MergeMethod, values: Mapping[str, Values]) -> dict[str, Any] | None:
    """Mergekit's settings for the options that are not as it has them, or ``None`` where it has no such settings."""
    if any(getattr(method, name) != fixed for name, fixed in peer.fixed.items() if name != "equals"):
        return None
    written = {}
    for setting in peer.of_kind(OPTION):
        ours = getattr(method, setting.our_name)
        if setting.values is not None and ours not in setting.values.values():
            # Survivors are divided by their probability, which is nothing where all survive.
            if any(share != 1.0 for each in values.values() for share in _entries(each["density"])):
                return None
            continue
        if (value := setting.to_mergekits(ours)) != setting.default:
            written[setting.name] = value
    return written


def _is_neutral(peer: PeerMethod, method: MergeMethod, values: Mapping[str, Values]) -> bool:
    """Whether parameters that mergekit has not are where they change nothing: at their start, or alike for all sources."""
    known = {setting.our_name for setting in peer.settings}
    return all(
        len(set(_entries(each[parameter.name]))) == 1 if parameter.per_source else each[parameter.name] == parameter.start
        for parameter in method.parameters
        if parameter.name not in known
        for each in values.values()
    )


def _conditions(rules: Sequence[tuple[Sequence[str], float]], tensors: Mapping[str, Values]) -> Any:
    """A setting's value: one number, or a list of filters of which the first that is part of a name counts."""
    if len({value for _, value in rules}) == 1:
        return rules[0][1]
    conditions: list[dict[str, Any]] = []
    for globs, value in rules:
        for glob in globs:
            part = glob.strip("*")
            if not part:
                return [*conditions, {"value": value}]
            parts = [name for name in tensors if fnmatchcase(name, glob)] if set(part) & set("*?[") else [part]
            conditions += [{"filter": each, "value": value} for each in parts]
    return conditions


def _reads_back(text: str, recipe: ParameterSpaceRecipe, values: Mapping[str, Values]) -> bool:
    """Whether the text means the recipe: the same models, and the same numbers for every tensor."""
    n_layers = len({match[1] for name in values if (match := _NUMBERED.match(name))})
    shape = Shape(n_layers, list(values), recipe.dtype)
    try:
        read = from_mergekit(text, "the config", lambda _: shape)
    except RecipeError:
        return False  # it may refuse what we build, such as a density of 0
    if not isinstance(read, ParameterSpaceRecipe) or [s.reference for s in read.sources] != [
        s.reference for s in recipe.sources
    ]:
        return False
    if not means_the_same(read, recipe):
        return False
    method = method_from_recipe(recipe.method, recipe.options)
    known = {setting.our_name for setting in METHODS[recipe.method].settings}
    return all(
        {key: each for key, each in _filled(method, rule_of(read, name)).items() if key in known}
        == {key: each for key, each in value.items() if key in known}
        for name, value in values.items()
    )


def _filled(method: MergeMethod, rule: ParameterRule) -> dict[str, tuple[float, ...] | float]:
    """A rule's values, with what it leaves out."""
    n_sources = max((len(value) for value in rule.values.values() if isinstance(value, tuple)), default=1)
    starts = {p.name: (p.start,) * n_sources if p.per_source else p.start for p in method.parameters}
    return starts | dict(rule.values)


def _entry(value: tuple[float, ...] | float, place: int) -> float:
    return value[place] if isinstance(value, tuple) else value


def _entries(value: tuple[float, ...] | float) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value,)


def _written(config: Mapping[str, Any]) -> str:
    return yaml.dump(config, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def _model(reference: ModelReference) -> str | dict[str, Any] | None:
    """How mergekit names a model; ``None`` where it has no name for it."""
    name = reference.model
    if not name or name.startswith((BUILTIN, PACKAGE)) or name.endswith(".gguf"):
        return None
    if reference.revision is None and not set(name) & set("@+"):
        return name
    # In a text, @ would begin a revision and + an adapter.
    return {"model": {"path": name} | ({} if reference.revision is None else {"revision": reference.revision})}


class _Dumper(yaml.SafeDumper):
    """Ranges on one line, everything else on lines of its own, as mergekit writes its configs; nothing by anchors."""

    def ignore_aliases(self, data: object) -> bool:
        """A model that comes twice is written twice."""
        return True


def _list(dumper: _Dumper, data: list[Any]) -> yaml.Node:
    is_range = all(isinstance(entry, int) for entry in data)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=is_range)


_Dumper.add_representer(list, _list)
