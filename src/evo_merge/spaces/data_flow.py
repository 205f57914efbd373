"""Data-flow space: recipes that choose a path through the layers of several models (Akiba et al. 2024, section 3.2)."""

import numpy as np

from evo_merge.errors import ConfigError
from evo_merge.genome import Genome
from evo_merge.recipe import SCALE_TARGETS, DataFlowRecipe, Source, Step
from evo_merge.spaces.base import Ingredients
from evo_merge.spaces.paths import Encoding, Layers, Scales

# A scale of 0 cannot be folded into weights, and far from 1 the weights it is folded into leave their dtype's range.
SMALLEST_SCALE, LARGEST_SCALE = 1e-3, 1e3


class DataFlowSpace:
    """Paths from the first model's first layer to its last, with a scale for each hop.

    The first of the sources is model A: it gives tokenizer, embeddings, final norm and head, and the two ends of every path.
    The genome of starts decodes to A by itself: its layers in order, each with scale 1.

    Args:
        ingredients: The models, and how many layers each has.
        seed: Of no use here: nothing is left to chance.
        encoding: Which layers stand between A's first and last.
        scales: What each hop's input is multiplied by. Sizes are kept within [0.001, 1000].
        scale_target: What a scale multiplies: ``residual``, all that enters the layer (the paper), or ``branch``, what the MLP
            of the previous layer added to it (the released model).
        max_hops: Of a path, its two ends included; of a longer one, the first layers that fit are kept, and A's last.
            ``None`` is twice A's layers.

    Attributes:
        max_hops: The same, as a number.

    Raises:
        ConfigError: The options do not fit the models.
        ValueError: The ingredients do not say how many layers each source has.
    """

    def __init__(
        self,
        ingredients: Ingredients,
        seed: int,
        *,
        encoding: Encoding,
        scales: Scales,
        scale_target: str,
        max_hops: int | None,
    ) -> None:
        for part, value in (("encoding", encoding), ("scales", scales)):
            if isinstance(value, str):
                raise ConfigError(f"merge.{part} is chosen with a slash: merge/{part}={value}")
        sources, counts = ingredients.sources, ingredients.n_layers
        if len(counts) != len(sources):
            raise ValueError(f"n_layers needs a number for each of the {len(sources)} sources, got {len(counts)}")
        if len(sources) < 2:
            names = ", ".join(source.name for source in sources) or "none"
            raise ConfigError(
                f"merge=dfs needs at least 2 sources, got {len(sources)} ({names}); choose with 'models.use=[a,b]'"
            )
        if counts[0] < 2:
            raise ConfigError(
                f"merge=dfs begins and ends every path with layers of the first source, which needs at least 2; "
                f"'{sources[0].name}' has {counts[0]}"
            )
        if scale_target not in SCALE_TARGETS:
            raise ConfigError(f"merge.scale_target must be one of {', '.join(SCALE_TARGETS)}, got '{scale_target}'")
        if max_hops is not None and max_hops < counts[0]:
            raise ConfigError(
                f"merge.max_hops must be at least {counts[0]}, the layers of '{sources[0].name}', with whose own path the "
                f"search begins; got {max_hops}"
            )
        self.max_hops = 2 * counts[0] if max_hops is None else max_hops
        self._sources, self._scale_target, self._out_dtype = sources, scale_target, ingredients.out_dtype
        self._counts = counts
        self._encoding, self._scales = encoding, scales
        self._layers = Layers(tuple(source.name for source in sources), counts)
        path_genes = encoding.genes(self._layers, self.max_hops)
        self._n_path_genes = len(path_genes)
        self.genes = path_genes + scales.genes(self._layers, self.max_hops)

    def decode(self, genome: Genome) -> DataFlowRecipe:
        """The recipe of a genome ``(dim,)``; raises ``ValueError`` for another shape."""
        if genome.shape != (len(self.genes),):
            raise ValueError(f"genome must have shape ({len(self.genes)},), got {genome.shape}")
        chosen, scaling = genome[: self._n_path_genes], genome[self._n_path_genes :]
        included = self._encoding.included(chosen, self._layers)[: self.max_hops - 2]
        hops = np.concatenate(([0], included, [self._layers.counts[0] - 1]))
        scales = self._scales.scales(scaling, hops, self._layers, self.max_hops)
        return self._recipe(hops.tolist(), np.copysign(np.clip(np.abs(scales), SMALLEST_SCALE, LARGEST_SCALE), scales).tolist())

    def singles(self) -> dict[str, DataFlowRecipe]:
        """Each model by itself, by name; that of the first is what the genome of starts decodes to."""
        return {
            source.name: single_path(source, count, self._scale_target, self._out_dtype)
            for source, count in zip(self._sources, self._counts, strict=True)
        }

    def stacked(self) -> DataFlowRecipe:
        """The un-tuned merge: all layers of all models, one model after the other, then A's last again; scales 1.

        Longer than ``max_hops`` it may be: it is a comparison, and no candidate.
        """
        hops = [*range(len(self._layers)), self._layers.counts[0] - 1]
        return self._recipe(hops, [1.0] * len(hops))

    def _recipe(self, hops: list[int], scales: list[float]) -> DataFlowRecipe:
        models, layers = self._layers.model[hops].tolist(), self._layers.index[hops].tolist()
        steps = zip(models, layers, scales, strict=True)
        path = tuple(Step(self._sources[model].name, layer, scale) for model, layer, scale in steps)
        used = tuple(source for model, source in enumerate(self._sources) if model in models)
        return DataFlowRecipe(used, path, self._scale_target, self._out_dtype)


def single_path(source: Source, n_layers: int, scale_target: str, out_dtype: str) -> DataFlowRecipe:
    """A model by itself, as a path: its layers in order, each with scale 1."""
    path = tuple(Step(source.name, layer) for layer in range(n_layers))
    return DataFlowRecipe((source,), path, scale_target, out_dtype)
