"""The data-flow space, over its encodings and scales."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from evo_merge.command_line import CONF
from evo_merge.config import check
from evo_merge.errors import ConfigError
from evo_merge.genome import Genome
from evo_merge.recipe import DataFlowRecipe, ModelReference, Source, recipe_hash, to_yaml
from evo_merge.recipe_file import from_yaml
from evo_merge.spaces.base import Ingredients
from evo_merge.spaces.data_flow import DataFlowSpace, single_path
from evo_merge.spaces.path_encodings import Binary, Indicator, Segments, Slots
from evo_merge.spaces.path_scales import MatrixScales, NetworkScales, NoScales, PerHopScales
from evo_merge.spaces.paths import Encoding, Scales

SOURCES = tuple(Source(name, ModelReference(f"org/{name}")) for name in ("math_a", "ja", "code"))
ENCODINGS = {
    "indicator": Indicator(repetitions=3, start=0.1),
    "binary": Binary(repetitions=2),
    "slots": Slots(n_slots=None),
    "segments": Segments(n_segments=4),
}
SCALES = {
    "matrix": MatrixScales(reach=None),
    "network": NetworkScales(hidden=4, reach=None),
    "per_hop": PerHopScales(reach=None),
    "none": NoScales(),
}
POOLS = [(4, 4), (6, 4), (2, 5), (3, 1), (5, 4, 6)]


def space(
    encoding: Encoding | None = None,
    scales: Scales | None = None,
    *,
    n_layers: tuple[int, ...] = (4, 4),
    max_hops: int | None = None,
    scale_target: str = "residual",
) -> DataFlowSpace:
    ingredients = Ingredients(None, SOURCES[: len(n_layers)], (), "bfloat16", n_layers)
    return DataFlowSpace(
        ingredients,
        7,
        encoding=encoding or ENCODINGS["indicator"],
        scales=scales or NoScales(),
        scale_target=scale_target,
        max_hops=max_hops,
    )


def starts(chosen: DataFlowSpace) -> Genome:
    return np.array([gene.start for gene in chosen.genes])


def drawn(chosen: DataFlowSpace, rng: np.random.Generator, width: float) -> Genome:
    """A genome of the box: normal around the start, or uniform where a gene is no real number."""
    values = []
    for gene in chosen.genes:
        if gene.kind == "real":
            values.append(np.clip(gene.start + width * gene.span * rng.standard_normal(), gene.low, gene.high))
        else:
            values.append(rng.integers(int(gene.low), int(gene.high), endpoint=True))
    return np.array(values, dtype=np.float64)


def words(recipe: DataFlowRecipe) -> str:
    letter = {source.name: "ABC"[number] for number, source in enumerate(SOURCES)}
    return " ".join(f"{letter[step.model]}{step.layer}" for step in recipe.path)


# --- the contract of every encoding and scales -----------------------------------------------------------------------


@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("n_layers", POOLS)
def test_the_search_begins_with_the_first_model_by_itself(n_layers: tuple[int, ...], encoding: str, scales: str) -> None:
    chosen = space(ENCODINGS[encoding], SCALES[scales], n_layers=n_layers, scale_target="branch")
    recipe = chosen.decode(starts(chosen))
    assert recipe == single_path(SOURCES[0], n_layers[0], "branch", "bfloat16")
    assert recipe_hash(recipe) == recipe_hash(single_path(SOURCES[0], n_layers[0], "branch", "bfloat16"))


@pytest.mark.parametrize("width", [0.02, 1 / 6, 3.0])
@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("n_layers", POOLS)
def test_any_genome_is_a_path_from_the_first_layer_to_the_last(
    n_layers: tuple[int, ...], encoding: str, scales: str, width: float
) -> None:
    chosen = space(ENCODINGS[encoding], SCALES[scales], n_layers=n_layers)
    rng = np.random.default_rng(0)
    layers = dict(zip((source.name for source in SOURCES), n_layers, strict=False))
    for _ in range(20):
        genome = drawn(chosen, rng, width)
        before = genome.copy()
        recipe = chosen.decode(genome)
        assert (recipe.path[0].model, recipe.path[0].layer) == ("math_a", 0)
        assert (recipe.path[-1].model, recipe.path[-1].layer) == ("math_a", n_layers[0] - 1)
        assert 2 <= len(recipe.path) <= chosen.max_hops == 2 * n_layers[0]
        assert all(0 <= step.layer < layers[step.model] for step in recipe.path)
        assert all(1e-3 <= abs(step.scale) <= 1e3 for step in recipe.path)
        used = {"math_a", *(step.model for step in recipe.path)}
        assert recipe.models == tuple(source for source in SOURCES if source.name in used)
        assert recipe == chosen.decode(genome.copy())
        assert from_yaml(to_yaml(recipe)) == recipe
        np.testing.assert_array_equal(genome, before)


@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_genes_have_names_of_their_own(encoding: str, scales: str) -> None:
    genes = space(ENCODINGS[encoding], SCALES[scales], n_layers=(5, 4, 6)).genes
    assert len({gene.name for gene in genes}) == len(genes)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("change", [-1, 1])
def test_a_genome_of_another_shape_is_refused(encoding: str, change: int) -> None:
    chosen = space(ENCODINGS[encoding])
    dim = len(chosen.genes)
    with pytest.raises(ValueError, match=rf"genome must have shape \({dim},\), got \({dim + change},\)"):
        chosen.decode(np.zeros(dim + change))
    with pytest.raises(ValueError, match="genome must have shape"):
        chosen.decode(np.zeros((1, dim)))


# --- recipes ---------------------------------------------------------------------------------------------------------


def test_the_published_search_has_its_number_of_genes() -> None:
    chosen = space(scales=MatrixScales(reach=None), n_layers=(32, 32))
    assert len(chosen.genes) == 190 + 4096 == 4286
    assert {(gene.low, gene.high, gene.kind, gene.span) for gene in chosen.genes} == {(-np.inf, np.inf, "real", 0.6)}
    assert chosen.genes[17].name == "slot/17/math_a.17"
    assert chosen.genes[99].name == "slot/99/ja.3"
    assert chosen.genes[190 + 64 * 2 + 35].name == "scale/math_a.2>ja.3"


def authors(params: Genome, n_layers: int, n_hops: int, last: int) -> tuple[list[int], list[float]]:
    """Path and scales as https://github.com/SakanaAI/evolutionary-model-merge/issues/8 describes them, in words of our own."""
    n_indicators = n_hops - 2
    path = [0, *(slot % n_layers for slot in range(n_indicators) if params[slot] > 0), last]
    matrix = 1 + params[n_indicators:].reshape(n_layers, n_layers)
    return path, [1.0, *(matrix[i][j] for i, j in pairwise(path))]


def test_published_genes_decode_as_the_author_says() -> None:
    chosen = space(scales=MatrixScales(reach=None), n_layers=(32, 32), max_hops=192)
    genome = 0.7 * np.random.default_rng(3).standard_normal(4286)
    path, scales = authors(genome, n_layers=64, n_hops=192, last=31)
    recipe = chosen.decode(genome)
    assert [step.layer + (32 if step.model == "ja" else 0) for step in recipe.path] == path
    np.testing.assert_array_equal([step.scale for step in recipe.path], scales)
    assert min(scales) < 0


def test_a_genome_made_by_hand_decodes_with_its_scales() -> None:
    chosen = space(Indicator(repetitions=2, start=0.1), MatrixScales(reach=None))
    values = dict.fromkeys((gene.name for gene in chosen.genes), -1.0) | {
        "slot/1/math_a.1": 0.5, "slot/5/ja.1": 1e-9, "slot/6/ja.2": 0.0, "slot/9/math_a.1": 2.0, "slot/13/ja.1": 0.1,
        "scale/math_a.0>math_a.1": 0.25, "scale/math_a.1>ja.1": -1.5, "scale/ja.1>math_a.1": -0.9999,
        "scale/ja.1>math_a.3": 1.0, "scale/math_a.0>math_a.0": 9.0,
    }  # fmt: skip
    recipe = chosen.decode(np.array(list(values.values())))
    assert words(recipe) == "A0 A1 B1 A1 B1 A3"  # what comes twice has both places
    assert [step.scale for step in recipe.path] == [1.0, 1.25, -0.5, 1e-3, -0.5, 2.0]
    assert recipe.models == SOURCES[:2]


@pytest.mark.parametrize(
    ("gene", "scale"),
    [(-1.0, 1e-3), (-1.0005, -1e-3), (-0.9995, 1e-3), (-1.002, -0.002), (1e9, 1e3), (-1e9, -1e3), (0.5, 1.5)],
)
def test_a_scale_is_never_zero_nor_out_of_range(gene: float, scale: float) -> None:
    chosen = space(scales=PerHopScales(reach=None))
    genome = starts(chosen)
    genome[-7] = gene  # of the second hop of at most eight
    assert chosen.genes[-7].name == "scale/hop 1"
    np.testing.assert_allclose([step.scale for step in chosen.decode(genome).path], [1.0, scale, 1.0, 1.0], rtol=1e-9)


def test_what_does_not_fit_is_dropped_from_the_end_but_for_the_last_layer() -> None:
    long = np.ones(22)
    assert words(space(max_hops=24).decode(long)) == ("A0 A0 A1 A2 A3 B0 B1 B2 B3 A0 A1 A2 A3 B0 B1 B2 B3 A0 A1 A2 A3 B0 B1 A3")
    assert words(space().decode(long)) == "A0 A0 A1 A2 A3 B0 B1 A3"
    assert words(space(max_hops=4).decode(long)) == "A0 A0 A1 A3"
    assert words(space(n_layers=(2, 5), max_hops=2).decode(np.ones(19))) == "A0 A1"


def test_a_path_may_be_its_two_ends() -> None:
    assert words(space().decode(-np.ones(22))) == "A0 A3"


def test_the_stacked_merge_has_all_layers_even_where_they_are_too_many() -> None:
    chosen = space(n_layers=(3, 2, 1), max_hops=3, scale_target="branch")
    recipe = chosen.stacked()
    assert words(recipe) == "A0 A1 A2 B0 B1 C0 A2"
    assert {step.scale for step in recipe.path} == {1.0}
    assert (recipe.models, recipe.scale_target, recipe.out_dtype) == (SOURCES, "branch", "bfloat16")


def test_a_decoded_recipe_lists_only_the_models_on_its_path_in_their_order() -> None:
    chosen = space(Indicator(repetitions=1, start=0.1), n_layers=(3, 2, 2))
    genome = -np.ones(5)
    assert chosen.decode(genome).models == SOURCES[:1]
    genome[[3, 4]] = 1
    assert chosen.decode(genome).models == SOURCES[:2]
    chosen = space(Slots(n_slots=2), n_layers=(3, 2, 2))
    assert chosen.decode(np.array([6.0, 0.0])).models == (SOURCES[0], SOURCES[2])
    assert chosen.decode(np.array([6.0, 4.0])).models == SOURCES


# --- what does not fit -----------------------------------------------------------------------------------------------


def test_one_source_is_too_few() -> None:
    with pytest.raises(ConfigError, match=r"merge=dfs needs at least 2 sources, got 1 \(math_a\); choose with 'models.use="):
        space(n_layers=(4,))


def test_a_first_model_of_one_layer_has_no_two_ends() -> None:
    with pytest.raises(ConfigError, match=r"merge=dfs begins and ends .* needs at least 2; 'math_a' has 1"):
        space(n_layers=(1, 4))


def test_a_path_must_have_room_for_the_first_model() -> None:
    assert space(max_hops=4).max_hops == 4
    with pytest.raises(ConfigError, match=r"merge.max_hops must be at least 4, the layers of 'math_a', .*; got 3"):
        space(max_hops=3)


def test_an_unknown_scale_target_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match=r"merge.scale_target must be one of residual, branch, got 'both'"):
        space(scale_target="both")


def test_layers_are_counted_for_every_source() -> None:
    ingredients = Ingredients(None, SOURCES, (), "float32", (4, 4))
    with pytest.raises(ValueError, match="n_layers needs a number for each of the 3 sources, got 2"):
        DataFlowSpace(ingredients, 7, encoding=Slots(n_slots=9), scales=NoScales(), scale_target="residual", max_hops=None)


# --- on the command line ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scales", sorted(Path(file).stem for file in (CONF / "merge/scales").glob("*.yaml")))
@pytest.mark.parametrize("encoding", sorted(Path(file).stem for file in (CONF / "merge/encoding").glob("*.yaml")))
def test_encoding_and_scales_are_chosen_on_the_command_line(encoding: str, scales: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        words = ["merge=dfs", f"merge/encoding={encoding}", f"merge/scales={scales}"]
        config = compose("config", overrides=words)
    check(config, ("merge",))

    ingredients = Ingredients(None, SOURCES[:2], (), "float32", (4, 4))
    chosen = instantiate(config.merge, ingredients, 7)

    assert type(chosen).__name__ == "DataFlowSpace"
    assert type(instantiate(config.merge.encoding)) is type(ENCODINGS[encoding])
    assert type(instantiate(config.merge.scales)) is type(SCALES[scales])
    assert chosen.decode(starts(chosen)) == single_path(SOURCES[0], 4, "residual", "float32")


def test_the_defaults_are_the_published_parts() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=["merge=dfs"])
    chosen = instantiate(config.merge, Ingredients(None, SOURCES[:2], (), "float32", (32, 32)), 7)
    assert len(chosen.genes) == 4286
