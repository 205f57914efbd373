"""Encodings: how genes say which layers a path takes.

``Indicator`` is the published one (Akiba et al. 2024, section 3.2), ``Binary`` and ``Slots`` say the same choices to optimizers
that know more than real numbers, and ``Segments`` says less: a few runs of consecutive layers, in a dozen real genes.
"""

import math
from dataclasses import dataclass

import numpy as np

from evo_merge.errors import ConfigError
from evo_merge.genome import Gene, Genome
from evo_merge.spaces.paths import Hops, Layers


@dataclass(frozen=True, kw_only=True, slots=True)
class Indicator:
    """The published array: all layers, model after model, several times over; a slot is included where its gene is above 0.

    Of ``T = n_layers * repetitions`` slots, two hops are forced, which leaves ``T - 2`` genes. Gene ``g`` is layer ``g`` modulo
    ``n_layers``, as in the author's snippet (https://github.com/SakanaAI/evolutionary-model-merge/issues/8), so that genes
    made by it decode here: gene 0 is A's first layer again, and the last two layers of the last repetition have no gene.

    Genes are unbounded. Their span makes the published sigma of 0.1 the usual sixth of a box.

    Attributes:
        repetitions: Of the array; the paper has 3.
        start: Where the genes of A's inner layers begin in the first repetition; all others begin at minus that. Against a
            sigma of 0.1, one gene in six is flipped at 0.1, one in forty at 0.2, one in seven hundred at 0.3.
    """

    repetitions: int
    start: float

    def __post_init__(self) -> None:
        _check_repetitions(self.repetitions)
        if not 0 < self.start < math.inf:
            raise ConfigError(f"merge.encoding.start must be above 0, got {self.start}")

    def genes(self, layers: Layers, max_hops: int) -> tuple[Gene, ...]:
        """One for each slot."""
        return tuple(
            Gene(name, -math.inf, math.inf, self.start if included else -self.start, span=0.6)
            for name, included in _slots(layers, self.repetitions)
        )

    def included(self, values: Genome, layers: Layers) -> Hops:
        """The layers of the slots whose genes are above 0."""
        return np.flatnonzero(values > 0) % len(layers)


@dataclass(frozen=True, kw_only=True, slots=True)
class Binary:
    """The published array with genes that are 0 or 1, for optimizers that know such genes (CMA-ES with margin).

    Attributes:
        repetitions: Of the array; the paper has 3.
    """

    repetitions: int

    def __post_init__(self) -> None:
        _check_repetitions(self.repetitions)

    def genes(self, layers: Layers, max_hops: int) -> tuple[Gene, ...]:
        """One for each slot."""
        return tuple(
            Gene(name, 0.0, 1.0, float(included), kind="binary") for name, included in _slots(layers, self.repetitions)
        )

    def included(self, values: Genome, layers: Layers) -> Hops:
        """The layers of the slots whose genes are 1."""
        return np.flatnonzero(values > 0.5) % len(layers)


@dataclass(frozen=True, kw_only=True, slots=True)
class Slots:
    """Places on the path, each of which chooses one layer of all, or none; for optimizers that know choices (CatCMA).

    It reaches every path of its length. That is (n_layers + 1) ** n_slots of them, the paper's first count, so it wants a
    larger budget than the others.

    Attributes:
        n_slots: Places between A's first and last layer; ``None`` is all that the longest path has.
    """

    n_slots: int | None

    def genes(self, layers: Layers, max_hops: int) -> tuple[Gene, ...]:
        """One for each place: 0 is no layer, 1 the first layer of A, and so on."""
        n_slots = max_hops - 2 if self.n_slots is None else self.n_slots
        if n_slots < len(layers.inner):
            raise ConfigError(
                f"merge.encoding.n_slots must be at least {len(layers.inner)}, the layers of '{layers.models[0]}' between its "
                f"first and last, with which the search begins; got {n_slots}"
            )
        begun = [1 + layer for layer in layers.inner]
        starts = begun + [0] * (n_slots - len(begun))
        return tuple(Gene(f"slot/{place}", 0, len(layers), start, kind="choice") for place, start in enumerate(starts))

    def included(self, values: Genome, layers: Layers) -> Hops:
        """What the places chose, without those that chose nothing."""
        chosen = np.rint(values).astype(np.intp)
        return chosen[chosen > 0] - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Segments:
    """A few runs of consecutive layers, each of one model; a dozen bounded genes, however deep the models are.

    A path goes from A's first layer to A's last through ``n_segments`` segments. Depth is a share of the model, so that the
    same depth is about the same layer in each. Three kinds of genes:

    - ``segment/s/<model>``: how much a segment wants a model other than A. The highest wins, and A where none is above 0.
    - ``cut/c``: the depth at which segment ``c - 1`` ends and segment ``c`` goes on. Between two segments of one model it
      changes nothing, so it is free to move before it matters; a segment whose end comes before its beginning is empty.
    - ``jump/c``: before segment ``c``, and last before A's last layer: how far the path goes back (below 0: layers are run
      again) or ahead (layers are skipped). The depth is the cube of the gene: mostly less than a layer near the start, and
      up to the whole model at the edges of the box.

    All genes move the ends of runs by a layer at a time, and every end of every layer has the same share of a cut's box. The
    start is A's own layers, cut into equal segments. From there a single gene takes a run of layers from the other model at
    the same depth, which for models of one ancestor is the mildest of all changes. With a step of a sixth of the box, a segment
    does so in one candidate of four.

    Attributes:
        n_segments: Runs; every path of so many runs can be reached.
    """

    n_segments: int

    def __post_init__(self) -> None:
        if self.n_segments < 1:
            raise ConfigError(f"merge.encoding.n_segments must be at least 1, got {self.n_segments}")

    def genes(self, layers: Layers, max_hops: int) -> tuple[Gene, ...]:
        """For each segment its models, then all cuts, then all jumps."""
        _, *inner_ends, _ = _even_ends(layers, self.n_segments)
        models = [Gene(f"segment/{s}/{name}", -1.0, 1.0, -0.25) for s in range(self.n_segments) for name in layers.models[1:]]
        cuts = [Gene(f"cut/{c}", 0.0, 1.0, _depth(end, layers.counts[0])) for c, end in enumerate(inner_ends, start=1)]
        jumps = [Gene(f"jump/{c}", -1.0, 1.0, 0.0) for c in range(self.n_segments + 1)]
        return (*models, *cuts, *jumps)

    def included(self, values: Genome, layers: Layers) -> Hops:
        """The runs, one after the other."""
        n_models, n_layers = len(layers.models), layers.counts[0]
        wants, cuts, jumps = np.split(values, np.cumsum([self.n_segments * (n_models - 1), self.n_segments - 1]))
        best = wants.reshape(self.n_segments, n_models - 1)
        models = np.where(best.max(axis=1) > 0, 1 + best.argmax(axis=1), 0).tolist()
        places = [_depth(1, n_layers), *cuts.tolist(), _depth(n_layers - 1, n_layers)]
        shifts = (jumps**3).tolist()
        offsets = np.cumsum((0, *layers.counts)).tolist()
        runs = []
        for segment, model in enumerate(models):
            first = _end(places[segment] + shifts[segment], layers.counts[model])
            is_last = segment == self.n_segments - 1
            last = _end(places[segment + 1] - (shifts[segment + 1] if is_last else 0.0), layers.counts[model])
            runs.append(np.arange(offsets[model] + first, offsets[model] + max(first, last)))
        return np.concatenate(runs)


def _check_repetitions(repetitions: int) -> None:
    if repetitions < 1:
        raise ConfigError(f"merge.encoding.repetitions must be at least 1, got {repetitions}")


def _slots(layers: Layers, repetitions: int) -> list[tuple[str, bool]]:
    """Name of each gene of the array, and whether the search begins with its layer."""
    names = layers.names
    return [(f"slot/{slot}/{names[slot % len(names)]}", slot in layers.inner) for slot in range(len(names) * repetitions - 2)]


def _even_ends(layers: Layers, n_segments: int) -> list[int]:
    """Where segments of A's inner layers begin and end, ``(n_segments + 1,)``, as numbers of layers before."""
    return [1 + round(len(layers.inner) * segment / n_segments) for segment in range(n_segments + 1)]


def _depth(end: int, n_layers: int) -> float:
    """The middle of the depths that mean the end after so many layers; there are ``n_layers + 1`` ends, of equal shares."""
    return (end + 0.5) / (n_layers + 1)


def _end(depth: float, n_layers: int) -> int:
    return min(max(math.floor(depth * (n_layers + 1)), 0), n_layers)
