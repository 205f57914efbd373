"""Encodings: their genes, and that they reach the paths they should."""

import itertools

import numpy as np
import pytest

from evo_merge.errors import ConfigError
from evo_merge.spaces.path_encodings import Binary, Indicator, Segments, Slots
from evo_merge.spaces.paths import Layers

PAIR = Layers(("a", "b"), (4, 4))
UNEQUAL = Layers(("a", "b", "c"), (6, 3, 5))

Run = tuple[int, int, int]  # model, first layer, the layer after the last


def test_layers_are_numbered_model_after_model() -> None:
    layers = Layers(("a", "b"), (2, 3))
    assert len(layers) == 5
    assert layers.names == ("a.0", "a.1", "b.0", "b.1", "b.2")
    assert layers.model.tolist() == [0, 0, 1, 1, 1]
    assert layers.index.tolist() == [0, 1, 0, 1, 2]
    assert list(layers.inner) == []


# --- the published array ---------------------------------------------------------------------------------------------


def test_an_indicator_begins_with_the_first_models_inner_layers() -> None:
    genes = Indicator(repetitions=2, start=0.2).genes(PAIR, 8)
    assert len(genes) == 14
    assert [gene.start for gene in genes] == [-0.2, 0.2, 0.2, *[-0.2] * 11]
    assert [genes[slot].name for slot in (0, 4, 8, 13)] == ["slot/0/a.0", "slot/4/b.0", "slot/8/a.0", "slot/13/b.1"]


def test_a_binary_gene_is_its_own_indicator() -> None:
    genes = Binary(repetitions=2).genes(PAIR, 8)
    assert {(gene.kind, gene.low, gene.high) for gene in genes} == {("binary", 0.0, 1.0)}
    assert [gene.start for gene in genes] == [0, 1, 1, *[0] * 11]
    values = np.random.default_rng(0).integers(0, 2, 14).astype(float)
    indicator = Indicator(repetitions=2, start=0.1).included(values - 0.5, PAIR)
    assert Binary(repetitions=2).included(values, PAIR).tolist() == indicator.tolist()


@pytest.mark.parametrize(("encoding", "on"), [(Indicator(repetitions=3, start=0.1), 0.01), (Binary(repetitions=3), 1.0)])
def test_the_array_reaches_a_path_that_goes_back_as_often_as_it_repeats(encoding: Indicator | Binary, on: float) -> None:
    target = [1, 2, 5, 6, 1, 5, 7, 0, 3, 4]
    values = np.zeros(len(encoding.genes(PAIR, 12)))
    slot = -1
    for layer in target:
        slot += 1 + (layer - slot - 1) % len(PAIR)
        values[slot] = on
    assert encoding.included(values, PAIR).tolist() == target


# --- slots -----------------------------------------------------------------------------------------------------------


def test_slots_are_the_places_of_the_longest_path() -> None:
    genes = Slots(n_slots=None).genes(PAIR, 8)
    assert [(gene.name, gene.low, gene.high, gene.kind) for gene in genes] == [(f"slot/{i}", 0, 8, "choice") for i in range(6)]
    assert [gene.start for gene in genes] == [2, 3, 0, 0, 0, 0]
    assert len(Slots(n_slots=3).genes(PAIR, 8)) == 3


def test_slots_reach_every_path_and_pass_over_the_empty_ones() -> None:
    assert Slots(n_slots=6).included(np.array([8.0, 0.0, 1.0, 1.0, 0.0, 5.0]), PAIR).tolist() == [7, 0, 0, 4]


# --- segments --------------------------------------------------------------------------------------------------------


def genome_of(runs: list[Run], layers: Layers) -> np.ndarray:
    """Genes of a path: cuts where runs end, jumps to where the next one begins."""
    middle = lambda end, model: (end + 0.5) / (layers.counts[model] + 1)  # noqa: E731
    wants = np.full((len(runs), len(layers.models) - 1), -0.3)
    for segment, (model, _, _) in enumerate(runs):
        if model:
            wants[segment, model - 1] = 0.6
    first, last = middle(1, 0), middle(layers.counts[0] - 1, 0)
    ends = [middle(stop, model) for model, _, stop in runs]
    begins = [middle(start, model) for model, start, _ in runs]
    shifts = [begin - place for begin, place in zip(begins, [first, *ends[:-1]], strict=True)] + [last - ends[-1]]
    return np.concatenate([wants.ravel(), ends[:-1], np.cbrt(shifts)])


def layers_of(runs: list[Run], layers: Layers) -> list[int]:
    return [sum(layers.counts[:model]) + layer for model, start, stop in runs for layer in range(start, stop)]


def test_segments_have_few_genes_at_any_depth() -> None:
    genes = Segments(n_segments=4).genes(Layers(("a", "b"), (32, 32)), 64)
    assert len(genes) == len(Segments(n_segments=4).genes(PAIR, 8)) == 4 + 3 + 5
    assert len(Segments(n_segments=3).genes(UNEQUAL, 12)) == 6 + 2 + 4
    assert [gene.name for gene in genes][::4] == ["segment/0/b", "cut/1", "jump/1"]
    assert all(
        gene.kind == "real" and gene.low < gene.start < gene.high and np.isfinite(gene.low + gene.high) for gene in genes
    )


TARGETS = [
    [(0, 1, 3), (1, 2, 6), (0, 4, 5)],  # a prefix of A, a run of B, A again, with overlaps
    [(1, 0, 6)],  # all of B
    [(0, 1, 5), (1, 0, 6), (0, 0, 6)],  # stacked, A twice
    [(0, 2, 2), (1, 3, 4), (1, 3, 4)],  # an empty run, a layer twice
    [(1, 5, 6), (0, 0, 1), (1, 0, 1)],  # from end to beginning
    [(0, 3, 3)],  # nothing
]


@pytest.mark.parametrize("runs", TARGETS)
def test_segments_reach_every_path_of_their_runs(runs: list[Run]) -> None:
    layers = Layers(("a", "b"), (6, 6))
    encoding = Segments(n_segments=len(runs))
    values = genome_of(runs, layers)
    genes = encoding.genes(layers, 99)
    assert all(gene.low <= value <= gene.high for gene, value in zip(genes, values, strict=True))
    assert encoding.included(values, layers).tolist() == layers_of(runs, layers)


def test_segments_reach_every_pair_of_runs_of_unequal_models() -> None:
    ends = [(model, start, stop) for model, count in enumerate(UNEQUAL.counts) for start, stop in
            itertools.combinations(range(count + 1), 2)]  # fmt: skip
    encoding = Segments(n_segments=2)
    for runs in itertools.product(ends, repeat=2):
        values = genome_of(list(runs), UNEQUAL)
        assert np.abs(values).max() <= 1
        assert encoding.included(values, UNEQUAL).tolist() == layers_of(list(runs), UNEQUAL)


def test_one_gene_takes_a_segment_from_the_other_model_at_the_same_depth() -> None:
    layers = Layers(("a", "b"), (10, 10))
    encoding = Segments(n_segments=4)
    values = np.array([gene.start for gene in encoding.genes(layers, 20)])
    values[1] = 0.1
    assert encoding.included(values, layers).tolist() == [1, 2, 13, 14, 5, 6, 7, 8]


def test_a_cut_between_segments_of_one_model_changes_nothing() -> None:
    layers = Layers(("a", "b"), (10, 10))
    encoding = Segments(n_segments=2)
    values = np.array([gene.start for gene in encoding.genes(layers, 20)])
    for cut in np.linspace(0.2, 0.8, 25):
        values[2] = cut
        assert encoding.included(values, layers).tolist() == list(range(1, 9))


def test_neighbouring_genomes_are_neighbouring_paths() -> None:
    layers = Layers(("a", "b"), (10, 10))
    encoding = Segments(n_segments=3)
    genes = encoding.genes(layers, 20)
    start = np.array([gene.start for gene in genes])
    start[1] = 0.25
    for place in range(3, len(start)):  # cuts and jumps
        lengths = []
        for value in np.linspace(genes[place].low, 1.0, 4001):
            values = start.copy()
            values[place] = value
            lengths.append(len(encoding.included(values, layers)))
        # A cut may end one run and begin the next at once.
        assert np.abs(np.diff(lengths)).max() <= 1
        assert len(set(lengths)) > 4


def test_every_end_has_an_equal_share_of_a_cut() -> None:
    layers = Layers(("a", "b"), (6, 6))
    encoding = Segments(n_segments=2)
    values = genome_of([(1, 0, 6), (0, 6, 6)], layers)
    values[4] = 1.0  # beyond A's end, so that the second segment is empty wherever the cut is
    counts = np.zeros(7, dtype=int)
    for cut in (np.arange(7000) + 0.5) / 7000:
        values[2] = cut
        counts[len(encoding.included(values, layers))] += 1
    assert counts.tolist() == [1000] * 7


# --- what does not fit -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Indicator(repetitions=0, start=0.1), "merge.encoding.repetitions must be at least 1, got 0"),
        (lambda: Indicator(repetitions=1, start=0.0), "merge.encoding.start must be above 0, got 0.0"),
        (lambda: Binary(repetitions=-1), "merge.encoding.repetitions must be at least 1, got -1"),
        (lambda: Segments(n_segments=0), "merge.encoding.n_segments must be at least 1, got 0"),
        (
            lambda: Slots(n_slots=1).genes(PAIR, 8),
            "merge.encoding.n_slots must be at least 2, the layers of 'a' between .*got 1",
        ),
    ],
)
def test_options_that_cannot_be_are_one_sentence(make: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make()  # type: ignore[operator]
