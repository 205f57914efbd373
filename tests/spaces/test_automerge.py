"""Genes and recipes of the AutoMerger experiment: two different sources, one of the methods."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import permutations

import numpy as np
import pytest

from evo_merge.baselines import entrants, start_of
from evo_merge.errors import ConfigError
from evo_merge.genome import Genome
from evo_merge.methods.base import MergeMethod
from evo_merge.methods.dare_ties import DareTies
from evo_merge.methods.slerp import Slerp
from evo_merge.models.merging import check_mixture
from evo_merge.optimizers.cmaes import CMAES
from evo_merge.optimizers.random import RandomSearch
from evo_merge.recipe import ModelReference, ParameterSpaceRecipe, Source, to_yaml
from evo_merge.recipe_file import from_yaml
from evo_merge.spaces.automerge import AutomergeSpace
from evo_merge.spaces.base import Ingredients

BASE = ModelReference("org/base")
SOURCES = tuple(Source(name, ModelReference(f"org/{name}")) for name in ("ja", "math_a", "math_b"))
TENSORS = ["model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight"]
METHODS: Mapping[str, MergeMethod] = {"slerp": Slerp(), "dare_ties": DareTies()}


def space(
    sources: tuple[Source, ...] = SOURCES,
    base: ModelReference | None = BASE,
    methods: Mapping[str, MergeMethod] = METHODS,
    granularity: str | int = "model",
    bounds: Mapping[str, Mapping[str, Sequence[float] | None]] | None = None,
) -> AutomergeSpace:
    ingredients = Ingredients(base, sources, TENSORS, "bfloat16")
    return AutomergeSpace(ingredients, 7, methods=methods, granularity=granularity, bounds=bounds or {})


def drawn(box: AutomergeSpace, n: int, seed: int = 1) -> list[ParameterSpaceRecipe]:
    return [box.decode(genome) for genome in RandomSearch(box.genes, seed, population_size=n).ask()]


def names(recipe: ParameterSpaceRecipe) -> tuple[str, ...]:
    return tuple(source.name for source in recipe.sources)


# --- genes -----------------------------------------------------------------------------------------------------------


def test_the_genes_are_three_choices_and_the_parameters_of_each_method() -> None:
    assert [(gene.name, gene.kind, gene.low, gene.high, gene.start) for gene in space().genes] == [
        ("source/first", "choice", 0, 2, 0),
        ("source/second", "choice", 0, 1, 0),
        ("method", "choice", 0, 1, 1),
        ("slerp/t", "real", 0, 1, 0.5),
        ("dare_ties/weight/first", "real", 0, 1, 0.5),
        ("dare_ties/weight/second", "real", 0, 1, 0.5),
        ("dare_ties/density/first", "real", 0, 1, 0.5),
        ("dare_ties/density/second", "real", 0, 1, 0.5),
    ]


def test_a_choice_of_one_thing_is_no_gene() -> None:
    assert [gene.name for gene in space(SOURCES[:2]).genes][:3] == ["source/first", "method", "slerp/t"]
    box = space(SOURCES[:2], methods={"slerp": Slerp()}, base=None)
    assert [gene.name for gene in box.genes] == ["source/first", "slerp/t"]
    assert names(box.decode(np.array([0.0, 0.3]))) == ("ja", "math_a")
    assert names(box.decode(np.array([1.0, 0.3]))) == ("math_a", "ja")


def test_granularity_and_bounds_are_those_of_the_methods() -> None:
    genes = {gene.name: gene for gene in space(granularity="layer", bounds={"dare_ties": {"weight": [-0.5, 1.5]}}).genes}
    assert len(genes) == 3 + 3 * (1 + 4)
    assert (genes["slerp/layer1/t"].low, genes["slerp/layer1/t"].high) == (0, 1)
    assert (genes["dare_ties/layer0/weight/second"].low, genes["dare_ties/layer0/weight/second"].high) == (-0.5, 1.5)


# --- recipes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_sources", [2, 3])
def test_every_ordered_pair_is_drawn_alike_and_no_model_meets_itself(n_sources: int) -> None:
    recipes = drawn(space(SOURCES[:n_sources]), 1200)
    found = Counter(names(recipe) for recipe in recipes)
    pairs = list(permutations([source.name for source in SOURCES[:n_sources]], 2))
    assert set(found) == set(pairs)
    # Within five standard deviations of equal shares.
    share = 1 / len(pairs)
    assert all(abs(n - 1200 * share) < 5 * (1200 * share * (1 - share)) ** 0.5 for n in found.values())
    n_slerp = sum(recipe.method == "slerp" for recipe in recipes)
    assert abs(n_slerp - 600) < 5 * 300**0.5


def test_a_genome_decodes_to_the_numbers_of_the_method_that_it_chooses() -> None:
    numbers = [0.1, 0.2, 0.3, 0.4, 0.5]
    by_slerp = space().decode(np.array([2.0, 0.0, 0.0, *numbers]))
    assert (names(by_slerp), by_slerp.method, by_slerp.base) == (("math_b", "ja"), "slerp", None)
    assert [rule.values for rule in by_slerp.parameters] == [{"t": 0.1}]
    by_dare = space().decode(np.array([0.0, 1.0, 1.0, *numbers]))
    assert (names(by_dare), by_dare.method, by_dare.base) == (("ja", "math_b"), "dare_ties", BASE)
    assert [rule.values for rule in by_dare.parameters] == [{"weight": (0.2, 0.3), "density": (0.4, 0.5)}]
    assert (by_dare.seed, by_dare.out_dtype, by_dare.options) == (7, "bfloat16", {"rescale": "density", "normalize": False})


def test_genes_of_the_method_that_is_not_chosen_change_nothing() -> None:
    genome = np.array([0.0, 1.0, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    other = genome.copy()
    other[4:] = 0.9
    assert space().decode(genome) == space().decode(other)


def test_what_is_drawn_can_be_built_and_survives_its_file() -> None:
    for recipe in drawn(space(granularity=2), 20):
        check_mixture(recipe)
        assert from_yaml(to_yaml(recipe)) == recipe


def test_the_unoptimised_merge_is_that_of_the_first_two_by_the_last_method() -> None:
    start = start_of(space())
    assert isinstance(start, ParameterSpaceRecipe)
    assert (names(start), start.method) == (("ja", "math_a"), "dare_ties")
    assert [rule.values for rule in start.parameters] == [{"weight": (0.5, 0.5), "density": (0.5, 0.5)}]
    scored = [(each.role, each.name) for each in entrants(space(), Ingredients(BASE, SOURCES, TENSORS, "bfloat16"), 7)]
    assert scored == [
        ("source", "ja"), ("source", "math_a"), ("source", "math_b"), ("unoptimised", "dare_ties, un-optimised"),
        ("baseline", "linear, un-tuned"), ("baseline", "task_arithmetic, un-tuned"), ("baseline", "ties, un-tuned"),
    ]  # fmt: skip


@pytest.mark.parametrize("genome", [np.zeros(7), np.zeros(9), np.zeros((1, 8))])
def test_a_genome_of_another_shape_is_refused(genome: Genome) -> None:
    with pytest.raises(ValueError, match=r"genome must have shape \(8,\), got"):
        space().decode(genome)


# --- what does not fit -----------------------------------------------------------------------------------------------


def test_fewer_than_two_sources_are_one_sentence() -> None:
    with pytest.raises(ConfigError, match=r"merge=automerge chooses two sources, got 1 \(ja\); name more in models.sources"):
        space(SOURCES[:1])


def test_a_missing_base_is_asked_for_by_the_method_that_needs_it() -> None:
    with pytest.raises(
        ConfigError, match="merge=automerge chooses dare_ties, which needs the base that the sources were tuned"
    ):
        space(base=None)
    assert len(space(base=None, methods={"slerp": Slerp()}).genes) == 3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"methods": {}}, "merge.methods is empty; merge=automerge needs at least one method to choose from"),
        ({"bounds": {"ties": {}}}, "merge.bounds: there is no method 'ties'; there are slerp, dare_ties"),
        ({"bounds": {"slerp": {"weight": [0, 1]}}}, "merge.bounds: 'slerp' has no parameter 'weight'; it has t"),
    ],
)
def test_options_that_cannot_be_are_one_sentence(changes: dict[str, Mapping[str, object]], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        space(**changes)  # type: ignore[arg-type]
    assert str(caught.value) == said


def test_an_optimizer_of_real_genes_says_which_takes_choices() -> None:
    with pytest.raises(ConfigError, match="'source/first' is choice; choose optimizer="):
        CMAES(space().genes, 1, sigma0=1 / 6, population_size=None, startup_trial=False)
