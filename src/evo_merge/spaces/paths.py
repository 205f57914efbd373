"""What a path through layers is made of, and the two parts that turn genes into one: an encoding and scales."""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from evo_merge.genome import Gene, Genome

Hops: TypeAlias = NDArray[np.intp]  # (n_hops,), each the number of a layer


@dataclass(frozen=True)
class Layers:
    """The layers of all models, numbered model after model: A's from 0, then B's, and so on.

    Attributes:
        models: Names of the models. The first is A, with whose first and last layer every path begins and ends.
        counts: Number of layers of each.
    """

    models: tuple[str, ...]
    counts: tuple[int, ...]

    def __len__(self) -> int:
        return sum(self.counts)

    @cached_property
    def model(self) -> Hops:
        """Index of each layer's model, ``(n_layers,)``."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    @cached_property
    def index(self) -> Hops:
        """Index of each layer within its model, ``(n_layers,)``."""
        return np.concatenate([np.arange(count) for count in self.counts])

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What genes call each layer, for example ``ja.3``."""
        return tuple(
            f"{model}.{layer}" for model, count in zip(self.models, self.counts, strict=True) for layer in range(count)
        )

    @property
    def inner(self) -> range:
        """A's layers between its first and its last: what a search begins with."""
        return range(1, self.counts[0] - 1)


class Encoding(Protocol):
    """Turns genes into the layers between A's first and A's last."""

    def genes(self, layers: Layers, max_hops: int) -> tuple[Gene, ...]:
        """The genes, whose starts decode to ``layers.inner``; raises ``ConfigError`` where the options cannot be."""

    def included(self, values: Genome, layers: Layers) -> Hops:
        """The layers in the order of the path, as many as the values say: the space cuts what is too long."""


class Scales(Protocol):
    """Turns genes into what the input of each hop is multiplied by."""

    def genes(self, layers: Layers, max_hops: int) -> tuple[Gene, ...]:
        """The genes, whose starts give a scale of 1 everywhere; raises ``ConfigError`` where the options cannot be."""

    def scales(self, values: Genome, hops: Hops, layers: Layers, max_hops: int) -> NDArray[np.float64]:
        """The scale of each hop, ``(n_hops,)``."""
