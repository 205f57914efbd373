"""A layer path as a config of mergekit (https://github.com/arcee-ai/mergekit), for those who already build with it."""

from typing import Any

import yaml

from evo_merge.models.layer_path import runs
from evo_merge.models.reference import BUILTIN, PACKAGE
from evo_merge.recipe import DataFlowRecipe, ModelReference


def passthrough_yaml(recipe: DataFlowRecipe) -> str | None:
    """The config with which mergekit puts the same tensors together, or ``None`` where it cannot.

    It can where every scale is 1, the path begins and ends in the first model, and every model is a folder or a hub id.
    Lists that a model's own config has for its layers (``layer_types``) it leaves as they are in the first model's.
    """
    first = recipe.models[0]
    models = {source.name: _model(source.reference) for source in recipe.models}
    if any(step.scale != 1 for step in recipe.path) or None in models.values():
        return None
    # mergekit takes the embeddings from the model of the first slice, the final norm and the head from that of the last.
    if not recipe.path[0].model == recipe.path[-1].model == first.name:
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
