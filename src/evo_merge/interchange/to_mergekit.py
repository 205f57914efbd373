"""A recipe as a config of mergekit (https://github.com/arcee-ai/mergekit), for those who already build with it."""

import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final, TypeAlias

import yaml

from evo_merge.errors import RecipeError
from evo_merge.interchange.from_mergekit import from_mergekit
from evo_merge.interchange.gradients import as_gradients
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
_Written: TypeAlias = Callable[[str, int], Any]  # a parameter, by our name, of the source in that place, as a setting's value


class InexpressibleError(Exception):
    """A recipe that mergekit has no words for; the text says which are missing."""


def mergekit_yaml(recipe: Recipe, tensors: Sequence[str]) -> str:
    """The config with which mergekit makes the same merge.

    Args:
        recipe: What to write.
        tensors: Full names of the merge's tensors.

    Raises:
        InexpressibleError: It cannot, with the reason.
    """
    if isinstance(recipe, DataFlowRecipe):
        return passthrough_yaml(recipe)
    if recipe.method not in METHODS:
        raise InexpressibleError(f"mergekit has no method '{recipe.method}'")
    method = method_from_recipe(recipe.method, recipe.options)
    values = {name: _filled(method, rule_of(recipe, name)) for name in tensors}
    texts = [_mixture(recipe, written, values) for written in _forms(recipe, method, values)]
    for text in sorted(texts, key=len):
        if _reads_back(text, recipe, values):
            return text
    raise InexpressibleError("mergekit refuses some of its numbers, or would read them as others")


def passthrough_yaml(recipe: DataFlowRecipe) -> str:
    """The config with which mergekit puts the same tensors together.

    It can where every scale is 1, the path begins in the first model and ends in that of the head, and every model is a
    folder or a hub id. Lists that a model's own config has for its layers (``layer_types``) it leaves as they are in the first
    model's.

    Raises:
        InexpressibleError: It cannot, with the reason.
    """
    first = recipe.models[0]
    models = {source.name: _model(source.reference) for source in recipe.models}
    if any(step.scale != 1 for step in recipe.path):
        raise InexpressibleError("mergekit has no scales of what enters a layer")
    if recipe.path[0].model != first.name:
        raise InexpressibleError("mergekit takes the embeddings from the model of the first layer, and the recipe from another")
    if recipe.path[-1].model != head_of(recipe):
        raise InexpressibleError("mergekit takes the final norm and the head from the model of the last layer")
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


def _forms(recipe: ParameterSpaceRecipe, method: MergeMethod, values: Mapping[str, Values]) -> list[_Written]:
    """Ways to write the numbers: the recipe's rules as filters, gradients, and where a rule's globs are no filters, by name."""
    filled = [ParameterRule(rule.tensors, _filled(method, rule)) for rule in recipe.parameters]

    def by_rules(ours: str, place: int) -> Any:
        return _conditions([(rule.tensors, _entry(rule.values[ours], place)) for rule in filled], values)

    def by_names(ours: str, place: int) -> Any:
        return _conditions([((name,), _entry(value[ours], place)) for name, value in values.items()], values)

    def by_gradients(ours: str, place: int) -> Any:
        found = as_gradients({name: _entry(value[ours], place) for name, value in values.items()})
        return by_rules(ours, place) if found is None else found

    return [by_rules, by_gradients, by_names]


def _mixture(recipe: ParameterSpaceRecipe, written: _Written, values: Mapping[str, Values]) -> str:
    peer, method = METHODS[recipe.method], method_from_recipe(recipe.method, recipe.options)
    models = [_model(source.reference) for source in recipe.sources]
    base = None if recipe.base is None else _model(recipe.base)
    options, tokenizer = _options(peer, method, values), mergekit_tokenizer(recipe, _model)
    if tokenizer is None:
        raise InexpressibleError("mergekit has no rows of tokens from models that are not merged")
    _refuse_what_counts(peer, method, values)
    named = {setting.our_name: setting for setting in peer.settings if setting.kind != OPTION}

    def settings(place: int, *, shared: bool) -> dict[str, Any]:
        found = {setting: written(ours, place) for ours, setting in named.items() if (setting.kind == SHARED) == shared}
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


def _options(peer: PeerMethod, method: MergeMethod, values: Mapping[str, Values]) -> dict[str, Any]:
    """Mergekit's settings for the options that are not as it has them; ``InexpressibleError`` where it has no such settings."""
    for name, fixed in peer.fixed.items():
        if name != "equals" and getattr(method, name) != fixed:
            raise InexpressibleError(f"mergekit has no '{name}: {getattr(method, name)}'; it always has {fixed}")
    written = {}
    for setting in peer.of_kind(OPTION):
        ours = getattr(method, setting.our_name)
        if setting.values is not None and ours not in setting.values.values():
            # Survivors are divided by their probability, which is nothing where all survive.
            if any(share != 1.0 for each in values.values() for share in _entries(each["density"])):
                raise InexpressibleError(f"mergekit has no '{setting.our_name}: {ours}'")
            continue
        if (value := setting.to_mergekits(ours)) != setting.default:
            written[setting.name] = value
    return written


def _refuse_what_counts(peer: PeerMethod, method: MergeMethod, values: Mapping[str, Values]) -> None:
    """Parameters that mergekit has not must change nothing: be at their start, or alike for all sources."""
    known = {setting.our_name for setting in peer.settings}
    for parameter in method.parameters:
        if parameter.name in known:
            continue
        for each in values.values():
            value = each[parameter.name]
            if len(set(_entries(value))) > 1 if parameter.per_source else value != parameter.start:
                raise InexpressibleError(f"mergekit has no parameter '{parameter.name}' of this method")


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


def _model(reference: ModelReference) -> str | dict[str, Any]:
    """How mergekit names a model; ``InexpressibleError`` where it has no name for it."""
    name = reference.model
    if not name or name.startswith((BUILTIN, PACKAGE)) or name.endswith(".gguf"):
        raise InexpressibleError(f"mergekit has no name for '{reference}'")
    if reference.revision is None and not set(name) & set("@+"):
        return name
    # In a text, @ would begin a revision and + an adapter.
    return {"model": {"path": name} | ({} if reference.revision is None else {"revision": reference.revision})}


class _Dumper(yaml.SafeDumper):
    """Ranges and gradients in one list, everything else on lines of its own, as mergekit writes configs; nothing by anchors."""

    def ignore_aliases(self, data: object) -> bool:
        """A model that comes twice is written twice."""
        return True


def _list(dumper: _Dumper, data: list[Any]) -> yaml.Node:
    is_plain = all(isinstance(entry, int | float) for entry in data)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=is_plain)


_Dumper.add_representer(list, _list)
