"""Scales: their genes, and what they give."""

import numpy as np
import pytest

from evo_merge.errors import ConfigError
from evo_merge.spaces.path_scales import MatrixScales, NetworkScales, NoScales, PerHopScales
from evo_merge.spaces.paths import Layers, Scales

LAYERS = Layers(("a", "b"), (3, 2))
HOPS = np.array([0, 1, 4, 1, 2])
ALL = [MatrixScales(reach=None), NetworkScales(hidden=8, reach=None), PerHopScales(reach=None), NoScales()]


@pytest.mark.parametrize("scales", ALL)
@pytest.mark.parametrize("hops", [HOPS, np.array([0, 2])])
def test_genes_of_zero_scale_nothing(scales: Scales, hops: np.ndarray) -> None:
    genes = scales.genes(LAYERS, 6)
    assert all(gene.start == 0 and gene.low == -np.inf and gene.high == np.inf and gene.span == 0.6 for gene in genes)
    assert scales.scales(np.zeros(len(genes)), hops, LAYERS, 6).tolist() == [1.0] * len(hops)


def test_a_matrix_has_a_gene_for_every_ordered_pair() -> None:
    genes = MatrixScales(reach=None).genes(LAYERS, 6)
    assert len(genes) == 25
    assert [genes[i].name for i in (0, 1, 5, 24)] == [
        "scale/a.0>a.0", "scale/a.0>a.1", "scale/a.1>a.0", "scale/b.1>b.1",
    ]  # fmt: skip
    scales = MatrixScales(reach=None).scales(np.arange(25) / 8, HOPS, LAYERS, 6)
    assert scales.tolist() == [1.0, 1 + 1 / 8, 1 + 9 / 8, 1 + 21 / 8, 1 + 7 / 8]


def test_a_place_on_the_path_has_its_own_scale() -> None:
    genes = PerHopScales(reach=None).genes(LAYERS, 6)
    assert [gene.name for gene in genes] == [f"scale/hop {place}" for place in range(6)]
    scales = PerHopScales(reach=None).scales(np.array([0.5, 0, -2, 0, 0.25, 9]), HOPS, LAYERS, 6)
    assert scales.tolist() == [1.5, 1.0, -1.0, 1.0, 1.25]


def test_a_network_has_as_many_genes_for_any_models() -> None:
    network = NetworkScales(hidden=8, reach=None)
    assert len(network.genes(LAYERS, 6)) == len(network.genes(Layers(("a", "b", "c"), (80, 80, 80)), 160)) == 57


def test_a_network_is_told_both_layers_and_the_step() -> None:
    network = NetworkScales(hidden=8, reach=None)
    values = np.random.default_rng(0).standard_normal(57)
    one, other = (network.scales(values, np.array(hops), LAYERS, 6) for hops in ([0, 1, 4, 1, 2], [0, 1, 3, 1, 1]))
    assert one[0] == 1.0
    assert one[1] == other[1]  # the same pair at the same step
    assert len({*one[2:], *other[2:]}) == 6  # another previous layer, this layer, or step
    assert len({*network.scales(values, np.array([0, 1, 1, 1, 1]), LAYERS, 6)}) == 5


@pytest.mark.parametrize("hidden", [1, 8, 64])
def test_a_networks_scales_deviate_as_much_as_a_matrixs(hidden: int) -> None:
    network = NetworkScales(hidden=hidden, reach=None)
    layers = Layers(("a", "b"), (32, 32))
    rng = np.random.default_rng(0)
    drawn = [network.scales(0.1 * rng.standard_normal(7 * hidden + 1), np.arange(64), layers, 64)[1:] for _ in range(400)]
    assert 0.08 < np.std(drawn) < 0.16
    assert abs(np.mean(drawn) - 1) < 0.03


@pytest.mark.parametrize("scales", [MatrixScales(reach=0.3), NetworkScales(hidden=2, reach=0.3), PerHopScales(reach=0.3)])
def test_reach_bounds_every_gene(scales: Scales) -> None:
    assert {(gene.low, gene.high, gene.start, gene.span) for gene in scales.genes(LAYERS, 6)} == {(-0.3, 0.3, 0.0, 0.6)}


def test_options_that_cannot_be_are_one_sentence() -> None:
    for make in (MatrixScales, PerHopScales, lambda reach: NetworkScales(hidden=1, reach=reach)):
        with pytest.raises(ConfigError, match=r"merge.scales.reach must be above 0, or null .*; got 0.0"):
            make(reach=0.0)
    with pytest.raises(ConfigError, match=r"merge.scales.hidden must be at least 1, got 0"):
        NetworkScales(hidden=0, reach=None)
