"""Genes by depth and by filters, on the tensor names of a real Llama, and against what mergekit makes of the same numbers."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from evo_merge.errors import ConfigError
from evo_merge.interchange.from_mergekit import from_mergekit
from evo_merge.interchange.mergekit_stacks import Shape
from evo_merge.methods.base import MergeMethod
from evo_merge.methods.dare_ties import DareTies
from evo_merge.methods.slerp import Slerp
from evo_merge.recipe import ModelReference, ParameterSpaceRecipe, Source, rule_of
from evo_merge.spaces.base import Ingredients
from evo_merge.spaces.parameter import ParameterSpace
from evo_merge.spaces.sharing import Sharing, sharing

N_LAYERS = 12
with torch.device("meta"):
    SMALL = {"vocab_size": 16, "hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2}
    NAMES = list(LlamaForCausalLM(LlamaConfig(**SMALL, num_hidden_layers=N_LAYERS)).state_dict())
SOURCES = (Source("a", ModelReference("a")), Source("b", ModelReference("b")))


def shares(found: Sharing, name: str) -> dict[str, float]:
    """What a tensor has of each set of genes, as recipes are read: by the first rule that matches."""
    rule = next(rule for rule in found.rules if any(fnmatchcase(name, glob) for glob in rule.globs))
    return {found.names[place]: share for place, share in rule.shares}


def space(granularity: Any, method: MergeMethod | None = None, **options: Any) -> ParameterSpace:
    ingredients = Ingredients(ModelReference("base"), SOURCES, NAMES, "bfloat16")
    return ParameterSpace(ingredients, 7, method=method or DareTies(), granularity=granularity, bounds={}, **options)


def test_so_many_layers_share_genes_and_the_ends_go_with_them() -> None:
    found = sharing({"layers": 4}, NAMES)
    assert found.names == ("layer0-layer3", "layer4-layer7", "layer8-layer11")
    for name in NAMES:
        layer = int(name.split(".")[2]) if ".layers." in name else 0 if "embed" in name else 11
        assert shares(found, name) == {found.names[layer // 4]: 1.0}, name


def test_filters_take_the_tensors_whose_names_they_are_in_and_the_rest_shares_one_more_set() -> None:
    found = sharing({"filters": ["self_attn", "mlp"], "groups": 2}, NAMES)
    ends = ("layer0-layer5", "layer6-layer11")
    assert found.names == tuple(f"{end}.{part}" for end in ends for part in ("self_attn", "mlp", "rest"))
    for name in NAMES:
        part = next((each for each in ("self_attn", "mlp") if each in name), "rest")
        layer = int(name.split(".")[2]) if ".layers." in name else 0 if "embed" in name else 11
        assert shares(found, name) == {f"{ends[layer // 6]}.{part}": 1.0}, name


def test_the_first_filter_in_a_name_counts() -> None:
    found = sharing({"filters": ["q_proj", "self_attn"]}, NAMES)
    assert found.names == ("q_proj", "self_attn", "rest")
    assert shares(found, "model.layers.3.self_attn.q_proj.weight") == {"q_proj": 1.0}
    assert shares(found, "model.layers.3.self_attn.k_proj.weight") == {"self_attn": 1.0}


def test_a_filter_may_be_a_layer() -> None:
    found = sharing({"filters": ["layers.1."]}, NAMES)
    assert shares(found, "model.layers.1.mlp.up_proj.weight") == {"layers.1.": 1.0}
    assert shares(found, "model.layers.11.mlp.up_proj.weight") == {"rest": 1.0}


def test_a_gradient_of_two_points_rises_evenly() -> None:
    found = sharing({"groups": 2, "smooth": True}, NAMES)
    for layer in range(N_LAYERS):
        share = shares(found, f"model.layers.{layer}.mlp.up_proj.weight")
        assert share.get("depth1", 0.0) == pytest.approx(layer / (N_LAYERS - 1))
        assert sum(share.values()) == pytest.approx(1.0)


@pytest.mark.parametrize("filters", [None, ["self_attn", "mlp"]])
def test_a_gradient_is_the_one_that_mergekit_makes_of_a_list(filters: list[str] | None) -> None:
    granularity = {"layers": 3, "smooth": True, "filters": filters}
    made = space(granularity, Slerp())
    genome = np.linspace(0.05, 0.95, len(made.genes))
    recipe = made.decode(genome)
    # The genes are point by point, and for each point filter by filter.
    by_part = genome.reshape(4, -1).T.tolist()
    parts = [*(filters or []), None]
    conditions = [{"filter": part, "value": values} for part, values in zip(parts, by_part, strict=True)]
    text = f"{{merge_method: slerp, base_model: a, models: [{{model: a}}, {{model: b}}], parameters: {{t: {conditions}}}}}"
    theirs = from_mergekit(text.replace("None", "null"), "yaml", lambda _: Shape(N_LAYERS, NAMES, "float32"))
    assert isinstance(theirs, ParameterSpaceRecipe)
    for name in NAMES:
        assert rule_of(recipe, name).values["t"] == pytest.approx(rule_of(theirs, name).values["t"]), name


def test_a_point_of_a_gradient_is_a_gene_and_a_recipe_has_what_lies_between() -> None:
    made = space({"groups": 3, "smooth": True}, Slerp())
    assert [gene.name for gene in made.genes] == ["depth0/t", "depth1/t", "depth2/t"]
    recipe = made.decode(np.array([0.0, 0.2, 1.0]))
    name = "model.layers.{}.mlp.up_proj.weight"
    assert rule_of(recipe, name.format(0)).values["t"] == 0.0
    assert rule_of(recipe, name.format(11)).values["t"] == 1.0
    assert rule_of(recipe, name.format(5)).values["t"] == pytest.approx(0.2 * 10 / 11)
    assert rule_of(recipe, "model.norm.weight").values["t"] == 0.0


def test_a_shared_parameter_is_one_gene_and_one_number_for_all_sources() -> None:
    made = space("model", shared=["density"])
    assert [gene.name for gene in made.genes] == ["weight/a", "weight/b", "density"]
    (rule,) = made.decode(np.array([0.1, 0.2, 0.3])).parameters
    assert rule.values == {"weight": (0.1, 0.2), "density": (0.3, 0.3)}


def test_a_shared_parameter_of_sources_that_are_off_is_left_out_with_them() -> None:
    made = space("model", shared=["density"], select_sources=True)
    (rule,) = made.decode(np.array([0.1, 0.2, 0.3, 0.0, 1.0])).parameters
    assert rule.values == {"weight": (0.2,), "density": (0.3,)}


def test_a_parameter_that_cannot_be_shared_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match=r"merge.shared: 'lambda' is not searched for each source; .* has weight, density"):
        space("model", shared=["lambda"])


def test_bounds_may_say_where_the_search_begins() -> None:
    ingredients = Ingredients(ModelReference("base"), SOURCES, NAMES, "bfloat16")
    made = ParameterSpace(ingredients, 7, method=DareTies(), granularity="model", bounds={"density": [0, 1, 1]})
    assert [gene.start for gene in made.genes] == [0.5, 0.5, 1.0, 1.0]


@pytest.mark.parametrize(
    ("granularity", "said"),
    [
        ({"layer": 2}, "there is no 'layer'; did you mean 'layers'"),
        ({"layers": 5}, "12 layers cannot be cut into groups of 5"),
        ({"groups": 13}, "13 groups, but there are 12 layers"),
        ({"groups": 2, "layers": 6}, "both layers and groups"),
        ({"groups": 0}, "groups must be a whole number of at least 1, got 0"),
        ({"smooth": True}, "smooth needs points to go through"),
        ({"smooth": 1, "groups": 2}, "smooth must be true or false"),
        ({"filters": ["mpl"]}, "no tensor is left for 'mpl'"),
        ({"filters": ["self_attn", "q_proj"]}, "no tensor is left for 'q_proj'"),
        ({"filters": "mlp"}, "filters must be a list"),
        ({"filters": 5}, "filters must be a list"),
        ({"filters": {"mlp": 1}}, "filters must be a list"),
        ({"filters": ["mlp", "mlp"]}, "names one twice"),
    ],
)
def test_a_granularity_that_cannot_be_is_one_sentence(granularity: Mapping[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        sharing(granularity, NAMES)
