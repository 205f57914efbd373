"""Two random sources, merged by SLERP or DARE-TIES: the AutoMerger experiment, which the paper compares itself with.

Labonne 2024, https://twitter.com/maximelabonne/status/1767124527551549860; Akiba et al. 2024, section 5.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from evo_merge.errors import ConfigError
from evo_merge.genome import Gene, Genome
from evo_merge.methods.base import MergeMethod, name_of
from evo_merge.recipe import ModelReference, ParameterSpaceRecipe, Source
from evo_merge.spaces.base import Ingredients
from evo_merge.spaces.granularity import Granularity
from evo_merge.spaces.parameter import ParameterSpace

# They stand for the two chosen sources while a method's own genes are made and read.
_PAIR = tuple(Source(name, ModelReference(name)) for name in ("first", "second"))


class AutomergeSpace:
    """Which two sources, which method, and the parameters of every method, of which the chosen one's count.

    The two are never the same: the second is chosen among the others. The experiment drew SLERP with probability 0.4 and always
    gave a method the same parameters (https://huggingface.co/blog/kgourgou/a-first-look-at-automerger-data); here random search
    draws both as often, and the parameters too.

    Args:
        ingredients: The sources to choose from, and the base of their task vectors.
        seed: Of the methods' chance.
        methods: By the name that genes give it; the last is that of the un-optimised merge.
        granularity: Which tensors share genes; see ``ParameterSpace``.
        bounds: By name of the method, as ``ParameterSpace`` has them; a method that is left out has its own.

    Raises:
        ConfigError: Fewer than two sources, no base where a method needs one, no method, or bounds that do not fit.
    """

    def __init__(
        self,
        ingredients: Ingredients,
        seed: int,
        *,
        methods: Mapping[str, MergeMethod],
        granularity: Granularity,
        bounds: Mapping[str, Mapping[str, Sequence[float] | None]],
    ) -> None:
        sources = ingredients.sources
        if len(sources) < 2:
            names = ", ".join(source.name for source in sources) or "none"
            raise ConfigError(f"merge=automerge chooses two sources, got {len(sources)} ({names}); name more in models.sources")
        if not methods:
            raise ConfigError("merge.methods is empty; merge=automerge needs at least one method to choose from")
        if unknown := [name for name in bounds if name not in methods]:
            raise ConfigError(f"merge.bounds: there is no method '{unknown[0]}'; there are {', '.join(methods)}")
        for method in methods.values():
            if method.needs_base and ingredients.base is None:
                raise ConfigError(
                    f"merge=automerge chooses {name_of(method)}, which needs the base that the sources were tuned from; "
                    "name it with models.base=…"
                )
        self._sources = sources
        pair = replace(ingredients, sources=_PAIR)
        self._spaces = [
            ParameterSpace(pair, seed, method=method, granularity=granularity, bounds=bounds.get(name, {}))
            for name, method in methods.items()
        ]
        choices = [_choice("source/first", len(sources)), _choice("source/second", len(sources) - 1)]
        choices.append(_choice("method", len(methods), start=len(methods) - 1))
        # A choice of one thing is no gene.
        self._is_gene = [gene is not None for gene in choices]
        self.genes = tuple(gene for gene in choices if gene is not None) + tuple(
            replace(gene, name=f"{name}/{gene.name}")
            for name, space in zip(methods, self._spaces, strict=True)
            for gene in space.genes
        )

    def decode(self, genome: Genome) -> ParameterSpaceRecipe:
        """The recipe of a genome ``(dim,)``, which names the two chosen sources alone; ``ValueError`` for another shape."""
        if genome.shape != (len(self.genes),):
            raise ValueError(f"genome must have shape ({len(self.genes)},), got {genome.shape}")
        numbers = iter(genome.tolist())
        first, second, method = (round(next(numbers)) if is_gene else 0 for is_gene in self._is_gene)
        second += second >= first  # counted among the others
        start = sum(self._is_gene) + sum(len(space.genes) for space in self._spaces[:method])
        chosen = self._spaces[method]
        recipe = chosen.decode(genome[start : start + len(chosen.genes)])
        return replace(recipe, sources=(self._sources[first], self._sources[second]))


def _choice(name: str, n: int, start: int = 0) -> Gene | None:
    return Gene(name, 0.0, n - 1.0, float(start), kind="choice") if n > 1 else None
