"""LoRA adapters of one base, whose task vectors are products of two small matrices and may be summed as such."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from evo_merge.models.adapted_weights import AdaptedWeights
from evo_merge.models.adapters import Adapter, LowRank
from evo_merge.models.aligned import AlignedModel
from evo_merge.models.model import Model, StoredModel
from evo_merge.models.pool import Pool
from evo_merge.models.untied import UntiedModel
from evo_merge.recipe import ModelReference, Source


@dataclass(frozen=True)
class Family:
    """Adapters and the one model that all of them are on.

    Attributes:
        base: That model.
        adapters: One a source of the recipe, in that order.
    """

    base: Model
    adapters: tuple[Adapter, ...]

    def changes(self, name: str) -> tuple[LowRank | None, ...]:
        """What each adapter adds to a tensor; ``None`` where that is nothing."""
        return tuple(adapter.low_rank.get(name) for adapter in self.adapters)


def family_of(base: ModelReference | None, sources: Sequence[Source], pool: Pool) -> Family | str:
    """The family that sources are, or why they are none: a sentence about them.

    Args:
        base: What task vectors are taken against, which must be that of the adapters; ``None`` where none are taken.
        sources: Any models of the pool.
        pool: The models.

    Raises:
        ModelError: An adapter cannot be read.
    """
    models = [pool.open(source.name, source.reference) for source in sources]
    adapted: list[tuple[StoredModel, AdaptedWeights]] = []
    for model in models:
        if why := _changed_by_the_pool(model):
            return f"the source '{model.name}' {why}"
        if not isinstance(model, StoredModel) or not isinstance(model.weights, AdaptedWeights):
            return f"the source '{model.name}' is no adapter; name all sources as {{adapter: DIR, base: MODEL}}"
        adapted.append((model, model.weights))
    first, weights = adapted[0]
    files = first.files.without_adapter
    if other := [model for model, _ in adapted if model.files.without_adapter != files]:
        return f"the adapters '{first.name}' and '{other[0].name}' are on different bases; put all on one"
    if base is not None:
        named = pool.open("base", base)
        if not isinstance(named, StoredModel) or named.files != files:
            return f"the base '{base}' is not what the adapters are on; name '{first.reference.base}'"
    theirs = StoredModel(f"the base of {first.name}", first.reference.base or first.reference, files, weights.base)
    for model, held in adapted:
        if more := _more_than_products(held.adapter, theirs):
            return f"the adapter '{model.name}' {more}"
    return Family(theirs, tuple(held.adapter for _, held in adapted))


def _changed_by_the_pool(model: Model) -> str | None:
    """What the pool has made of a model for the sake of others, by which it is no longer its base and a sum; or ``None``."""
    if isinstance(model, AlignedModel):
        return "has its rows by models.tokenizer, which is no sum of products"
    if isinstance(model, UntiedModel):
        return "was given a head of its own, as other models have one; put all on models that do, or on none"
    return None


def _more_than_products(adapter: Adapter, base: Model) -> str | None:
    """What keeps an adapter from being a sum of products, or ``None``."""
    if dora := [name for name, change in adapter.low_rank.items() if change.magnitude is not None]:
        return f"is of type DoRA, which brings '{dora[0]}' to other norms"
    if adapter.biases:
        return f"also changes '{next(iter(adapter.biases))}'"
    for name, tensor in adapter.replaced.items():
        if not torch.equal(tensor, base.read(name).float()):  # peft saves embeddings that it adds to, mostly unchanged
            return f"has its own '{name}'"
    return None
