"""Scales: how genes say what a hop's input is multiplied by (Akiba et al. 2024, section 3.2).

A layer that follows another than it was trained behind meets an input of another size; a scale makes up for it. All genes start
at 0, where every scale is 1. They are unbounded, with a span that makes the published sigma of 0.1 the usual sixth of a box,
unless ``reach`` bounds them.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evo_merge.errors import ConfigError
from evo_merge.genome import Gene, Genome
from evo_merge.spaces.paths import Hops, Layers


@dataclass(frozen=True, kw_only=True, slots=True)
class MatrixScales:
    """The published matrix: a gene for every pair of layers, 1 + W[previous layer, this layer]; the first hop has scale 1.

    Flattened row by row, as in the author's snippet (https://github.com/SakanaAI/evolutionary-model-merge/issues/8).

    Attributes:
        reach: Genes lie within minus and plus that; ``None`` leaves them unbounded, as published.
    """

    reach: float | None

    def __post_init__(self) -> None:
        _check_reach(self.reach)

    def genes(self, layers: Layers, max_hops: int) -> tuple[Gene, ...]:
        """One for each ordered pair of layers, ``n_layers ** 2``."""
        return tuple(_gene(f"{previous}>{this}", self.reach) for previous in layers.names for this in layers.names)

    def scales(self, values: Genome, hops: Hops, layers: Layers, max_hops: int) -> NDArray[np.float64]:
        """The scale of each hop, ``(n_hops,)``."""
        scales = np.ones(len(hops))
        scales[1:] += values[hops[:-1] * len(layers) + hops[1:]]
        return scales


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkScales:
    """A small network of (previous layer, this layer, step), as many genes for a hundred layers as for ten; the first hop is 1.

    The paper names it, pi_theta(i, j, t), and no one has published one; this is ours: one hidden layer of tanh units over both
    layers' model and depth and the step, all within [-1, 1]. Weights of the hidden layer are a fixed draw plus their genes, the
    same draw in every run, so that a genome means the same everywhere; weights of the output are genes alone. So zero genes
    give 1, units differ from the start, and at a sigma of 0.1 scales deviate by about 0.1, as the matrix's do.

    Attributes:
        hidden: Units of the hidden layer.
        reach: Genes lie within minus and plus that; ``None`` leaves them unbounded.
    """

    hidden: int
    reach: float | None

    def __post_init__(self) -> None:
        _check_reach(self.reach)
        if self.hidden < 1:
            raise ConfigError(f"merge.scales.hidden must be at least 1, got {self.hidden}")

    def genes(self, layers: Layers, max_hops: int) -> tuple[Gene, ...]:
        """For each hidden unit its inputs' weights and its bias, then the output's weights and bias: ``7 * hidden + 1``."""
        inputs = ("previous model", "previous depth", "model", "depth", "step", "bias")
        first = [_gene(f"hidden/{unit}/{name}", self.reach) for unit in range(self.hidden) for name in inputs]
        second = [_gene(f"output/{name}", self.reach) for name in (*range(self.hidden), "bias")]
        return (*first, *second)

    def scales(self, values: Genome, hops: Hops, layers: Layers, max_hops: int) -> NDArray[np.float64]:
        """The scale of each hop, ``(n_hops,)``."""
        model = _within(layers.model[hops], len(layers.counts))
        depth = _within(layers.index[hops], np.asarray(layers.counts)[layers.model[hops]])
        step = _within(np.arange(len(hops)), max_hops)
        inputs = np.stack([model[:-1], depth[:-1], model[1:], depth[1:], step[1:], np.ones(len(hops) - 1)])  # (6, n_hops - 1)
        genes, output = values[: 6 * self.hidden].reshape(self.hidden, 6), values[6 * self.hidden :]
        fixed = np.random.default_rng(0).standard_normal((self.hidden, 6))
        units = np.tanh((fixed + genes) @ inputs)  # (hidden, n_hops - 1)
        change = output[:-1] @ units / math.sqrt(self.hidden) + output[-1]
        return np.concatenate(([1.0], 1.0 + change))


@dataclass(frozen=True, kw_only=True, slots=True)
class PerHopScales:
    """A gene for every place on the path, whatever layer stands there: what the released model stores.

    Attributes:
        reach: Genes lie within minus and plus that; ``None`` leaves them unbounded.
    """

    reach: float | None

    def __post_init__(self) -> None:
        _check_reach(self.reach)

    def genes(self, layers: Layers, max_hops: int) -> tuple[Gene, ...]:
        """One for each place of the longest path."""
        return tuple(_gene(f"hop {place}", self.reach) for place in range(max_hops))

    def scales(self, values: Genome, hops: Hops, layers: Layers, max_hops: int) -> NDArray[np.float64]:
        """The scale of each hop, ``(n_hops,)``."""
        return 1.0 + values[: len(hops)]


@dataclass(frozen=True, kw_only=True, slots=True)
class NoScales:
    """Every layer takes its input as it is."""

    def genes(self, layers: Layers, max_hops: int) -> tuple[Gene, ...]:
        """None."""
        return ()

    def scales(self, values: Genome, hops: Hops, layers: Layers, max_hops: int) -> NDArray[np.float64]:
        """Ones, ``(n_hops,)``."""
        return np.ones(len(hops))


def _gene(name: str, reach: float | None) -> Gene:
    if reach is None:
        return Gene(f"scale/{name}", -math.inf, math.inf, 0.0, span=0.6)
    return Gene(f"scale/{name}", -reach, reach, 0.0, span=2 * reach)


def _check_reach(reach: float | None) -> None:
    if reach is not None and not 0 < reach < math.inf:
        raise ConfigError(f"merge.scales.reach must be above 0, or null for genes without bounds; got {reach}")


def _within(index: Hops, count: int | Hops) -> NDArray[np.float64]:
    """An index from 0 to ``count - 1`` as a number from -1 to 1."""
    return np.asarray(2.0 * index / np.maximum(np.subtract(count, 1), 1) - 1.0, dtype=np.float64)
