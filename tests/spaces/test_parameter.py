"""Genes and recipes of the parameter space."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from evo_merge.errors import ConfigError
from evo_merge.methods.base import MergeMethod
from evo_merge.methods.dare_ties import DareTies
from evo_merge.methods.linear import Linear
from evo_merge.methods.slerp import Slerp
from evo_merge.models.merging import check_mixture
from evo_merge.recipe import ModelReference, Source, recipe_hash, to_yaml
from evo_merge.recipe_file import from_yaml
from evo_merge.spaces.base import Ingredients
from evo_merge.spaces.parameter import ParameterSpace

BASE = ModelReference("org/base")
SOURCES = tuple(Source(name, ModelReference(f"org/{name}")) for name in ("ja", "math_a", "math_b"))
with torch.device("meta"):
    NAMES = [
        name
        for name, _ in LlamaForCausalLM(
            LlamaConfig(vocab_size=16, hidden_size=8, intermediate_size=8, num_hidden_layers=4, num_attention_heads=2)
        ).named_parameters()
    ]


def space(
    method: MergeMethod | None = None,
    granularity: str | int = "model",
    bounds: Mapping[str, Sequence[float]] | None = None,
    sources: tuple[Source, ...] = SOURCES,
    base: ModelReference | None = BASE,
    *,
    select_sources: bool = False,
) -> ParameterSpace:
    ingredients = Ingredients(base, sources, NAMES, "bfloat16")
    return ParameterSpace(
        ingredients,
        7,
        method=method or DareTies(),
        granularity=granularity,
        bounds=bounds or {},
        select_sources=select_sources,
    )


# --- genes -----------------------------------------------------------------------------------------------------------


def test_a_whole_model_has_a_gene_for_every_parameter_and_source() -> None:
    assert [gene.name for gene in space().genes] == [
        "weight/ja", "weight/math_a", "weight/math_b", "density/ja", "density/math_a", "density/math_b",
    ]  # fmt: skip
    assert all((gene.low, gene.high, gene.start, gene.kind) == (0.0, 1.0, 0.5, "real") for gene in space().genes)


@pytest.mark.parametrize(("granularity", "n_groups"), [("model", 1), ("layer", 6), ("module", 4), (2, 2), (3, 3), (6, 6)])
def test_every_group_has_genes_of_its_own(granularity: str | int, n_groups: int) -> None:
    genes = space(granularity=granularity).genes
    assert len(genes) == n_groups * 2 * 3
    assert len({gene.name for gene in genes}) == len(genes)


def test_genes_of_groups_name_the_group_first() -> None:
    names = [gene.name for gene in space(granularity="layer").genes]
    assert names[:2] == ["embedding/weight/ja", "embedding/weight/math_a"]
    assert names[9] == "layer0/density/ja"
    assert names[-1] == "head/density/math_b"


def test_a_parameter_that_all_sources_share_is_one_gene() -> None:
    assert [gene.name for gene in space(Slerp(), "module", sources=SOURCES[:2]).genes] == [
        "norm/t", "attention/t", "mlp/t", "embedding/t",
    ]  # fmt: skip


def test_bounds_replace_the_box_and_the_start_is_its_centre() -> None:
    genes = {gene.name: gene for gene in space(bounds={"weight": [-0.5, 1.5]}, granularity=2).genes}
    widened = [gene for name, gene in genes.items() if "weight" in name]
    assert len(widened) == 6
    assert all((gene.low, gene.high, gene.start) == (-0.5, 1.5, 0.5) for gene in widened)
    assert all((gene.low, gene.high) == (0.0, 1.0) for name, gene in genes.items() if "density" in name)
    assert space(bounds={"weight": [0, 3]}).genes[0].start == 1.5


# --- recipes ---------------------------------------------------------------------------------------------------------


def test_a_genome_decodes_to_its_numbers_in_the_order_of_the_genes() -> None:
    recipe = space(granularity=2).decode(np.arange(12) / 16)
    assert [rule.values for rule in recipe.parameters] == [
        {"weight": (0.0, 1 / 16, 2 / 16), "density": (3 / 16, 4 / 16, 5 / 16)},
        {"weight": (6 / 16, 7 / 16, 8 / 16), "density": (9 / 16, 10 / 16, 11 / 16)},
    ]
    assert (recipe.base, recipe.sources, recipe.method, recipe.seed) == (BASE, SOURCES, "dare_ties", 7)
    assert (recipe.dtype, recipe.out_dtype) == ("float32", "bfloat16")
    assert recipe.options == {"rescale": "density", "normalize": False}


@pytest.mark.parametrize("granularity", ["model", "layer", "module", 3])
def test_every_tensor_gets_the_numbers_of_its_own_group(granularity: str | int) -> None:
    chosen = space(Linear(), granularity)
    genome = np.random.default_rng(0).uniform(size=len(chosen.genes))
    value = dict(zip((gene.name for gene in chosen.genes), genome.tolist(), strict=True))
    recipe = chosen.decode(genome)
    for name in NAMES:
        rule = next(rule for rule in recipe.parameters if any(fnmatchcase(name, glob) for glob in rule.tensors))
        group = {
            "model": "",
            "layer": group_by_layer(name),
            "module": group_by_module(name),
            3: {"embedding": "embedding-layer0", "layer0": "embedding-layer0", "layer1": "layer1-layer2"}.get(
                group_by_layer(name), "layer1-layer2" if group_by_layer(name) == "layer2" else "layer3-head"
            ),
        }[granularity]
        assert rule.values["weight"] == tuple(value["/".join(filter(None, (group, "weight", s.name)))] for s in SOURCES)


def group_by_layer(name: str) -> str:
    parts = name.split(".")
    return f"layer{parts[2]}" if parts[1] == "layers" else "embedding" if "embed" in name else "head"


def group_by_module(name: str) -> str:
    kinds = {"norm": "norm", "self_attn": "attention", "mlp": "mlp"}
    return next((kind for part, kind in kinds.items() if part in name), "embedding")


@pytest.mark.parametrize("granularity", ["model", "layer", "module", 4])
def test_the_same_genome_is_the_same_recipe_and_survives_its_file(granularity: str | int) -> None:
    genome = np.random.default_rng(1).uniform(size=len(space(granularity=granularity).genes))
    first, second = (space(granularity=granularity).decode(genome.copy()) for _ in range(2))
    assert first == second
    assert recipe_hash(first) == recipe_hash(second)
    assert from_yaml(to_yaml(first)) == first
    check_mixture(first)  # what a space decodes can be built


def test_a_method_without_a_base_decodes_to_a_recipe_without_one() -> None:
    assert space(Linear()).decode(np.full(3, 0.5)).base is None


@pytest.mark.parametrize("shape", [(5,), (7,), (1, 6), ()])
def test_a_genome_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"genome must have shape \(6,\), got"):
        space().decode(np.zeros(shape))


# --- what does not fit -----------------------------------------------------------------------------------------------


def test_a_method_for_two_sources_says_how_to_choose_them() -> None:
    with pytest.raises(ConfigError, match=r"merge=slerp merges exactly 2 sources, got 3 \(ja, math_a, math_b\); choose with"):
        space(Slerp())


def test_a_missing_base_is_asked_for() -> None:
    with pytest.raises(ConfigError, match="merge=dare_ties needs the base that the sources were tuned from; name it with"):
        space(base=None)
    assert len(space(Linear(), base=None).genes) == 3


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        ({"weigth": [0, 1]}, "merge.bounds: 'dare_ties' has no parameter 'weigth'; it has weight, density"),
        ({"weight": [1, 0]}, r"merge.bounds.weight must be \[low, high\] with low < high, or"),
        ({"weight": [1, 1]}, r"merge.bounds.weight must be \[low, high\]"),
        ({"weight": [1]}, r"merge.bounds.weight must be \[low, high\] with low < high, or \[low, high, start\], got \[1\]"),
        ({"weight": [0, 1, 2]}, r"merge.bounds.weight must be \[low, high\] with low < high, or"),
        ({"weight": [float("-inf"), float("inf")]}, r"merge.bounds.weight must be \[low, high\]"),
        ({"weight": [0, float("nan")]}, r"merge.bounds.weight must be \[low, high\]"),
        ({"weight": ["a", "b"]}, r"merge.bounds.weight must be \[low, high\]"),
        ({"weight": 0.5}, r"merge.bounds.weight must be \[low, high\]"),
        ({"density": [-0.5, 1]}, r"merge.bounds.density must lie within \[0, 1\], got \[-0.5, 1.0\]"),
        ({"density": [0, 2]}, r"merge.bounds.density must lie within \[0, 1\], got \[0.0, 2.0\]"),
    ],
)
def test_bounds_that_cannot_be_are_one_sentence(bounds: Mapping[str, Sequence[float]], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        space(bounds=bounds)


# --- choosing sources ------------------------------------------------------------------------------------------------


def test_every_source_has_a_gene_that_leaves_it_out() -> None:
    box = space(granularity=2, select_sources=True)
    plain = space(granularity=2)
    assert box.genes[: len(plain.genes)] == plain.genes
    assert [(gene.name, gene.kind, gene.start) for gene in box.genes[len(plain.genes) :]] == [
        ("on/ja", "binary", 1.0),
        ("on/math_a", "binary", 1.0),
        ("on/math_b", "binary", 1.0),
    ]


def test_with_all_sources_on_the_recipe_is_the_plain_one() -> None:
    box, plain = space(select_sources=True), space()
    start = np.array([gene.start for gene in box.genes])
    assert box.decode(start) == plain.decode(start[:6])


def test_a_source_that_is_off_is_not_in_the_recipe() -> None:
    box = space(granularity=2, select_sources=True)
    numbers = np.arange(12) / 12
    recipe = box.decode(np.concatenate([numbers, [1.0, 0.0, 1.0]]))
    assert [source.name for source in recipe.sources] == ["ja", "math_b"]
    assert [rule.values for rule in recipe.parameters] == [
        {"weight": (numbers[0], numbers[2]), "density": (numbers[3], numbers[5])},
        {"weight": (numbers[6], numbers[8]), "density": (numbers[9], numbers[11])},
    ]


def test_numbers_of_a_source_that_is_off_change_no_recipe() -> None:
    box = space(select_sources=True)
    genome = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 1.0, 0.0, 1.0])
    other = genome.copy()
    other[[1, 4]] = 0.9
    assert recipe_hash(box.decode(genome)) == recipe_hash(box.decode(other))


def test_where_no_source_is_on_the_one_with_the_greatest_weight_is() -> None:
    genome = np.array([0.1, 0.4, 0.3, 0.4, 0.1, 0.9, 0.0, 0.0, 0.0])
    assert [source.name for source in space(select_sources=True).decode(genome).sources] == ["math_a"]


@pytest.mark.parametrize(("method", "sources"), [(Slerp(), SOURCES[:2]), (DareTies(), SOURCES[:1])])
def test_sources_that_cannot_be_left_out_are_one_sentence(method: MergeMethod, sources: tuple[Source, ...]) -> None:
    with pytest.raises(ConfigError, match=r"merge.select_sources leaves sources out, and merge=\w+ of \d has none to spare"):
        space(method, sources=sources, select_sources=True)
