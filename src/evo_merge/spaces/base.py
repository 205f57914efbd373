"""What a merge space is: a box whose points are recipes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from evo_merge.genome import Gene, Genome
from evo_merge.recipe import ModelReference, Recipe, Source
from evo_merge.tokenizer_rule import TokenizerRule


@dataclass(frozen=True, slots=True)
class Ingredients:
    """What a space may mix.

    Attributes:
        base: What the sources were tuned from, or ``None``.
        sources: The models to mix, in the order of genes and recipes.
        tensors: Full names of the tensors of the merged model.
        out_dtype: Of the candidates.
        n_layers: Of each source.
        are_mixable: Whether the sources' weights can be mixed tensor by tensor.
        tokenizer: Whose tokens mixtures have, where the models have different ones.
    """

    base: ModelReference | None
    sources: tuple[Source, ...]
    tensors: Sequence[str]
    out_dtype: str
    n_layers: tuple[int, ...] = ()
    are_mixable: bool = True
    tokenizer: TokenizerRule | None = None


class MergeSpace(Protocol):
    """A box whose points are recipes.

    Attributes:
        genes: The numbers of a genome, in order.
    """

    genes: tuple[Gene, ...]

    def decode(self, genome: Genome) -> Recipe:
        """The recipe of a genome ``(dim,)``: the same genome, the same recipe."""
