"""What the candidates of a generation are asked: the search split, or so many of its problems, and in what order."""

import itertools
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from evo_merge.tasks.base import Portion

OfGeneration: TypeAlias = Callable[[int], Portion]
SUBSETS = ("fresh", "fixed", "disagreement")


def search_portion(sizes: Sequence[int], batch: int | None, seed: int) -> OfGeneration:
    """``subset=fresh``: the search split, or as many of its examples, drawn anew for each generation.

    Args:
        sizes: Examples of each part of the split, one after another: one number, but for a task made of several, of which each
            gives its share of a batch and at least one.
        batch: Examples of a generation; ``None`` is all.
        seed: Decides what is drawn.
    """
    if batch is None or batch >= sum(sizes):
        return lambda generation: Portion("search")
    shares = _shares(sizes, batch)

    def portion(generation: int) -> Portion:
        chance = np.random.default_rng([seed, generation])
        drawn: list[int] = []
        for start, size, share in zip(_starts(sizes), sizes, shares, strict=False):
            drawn += sorted((start + chance.choice(size, size=share, replace=False)).tolist())
        return Portion("search", tuple(drawn))

    return portion


def fixed_portion(sizes: Sequence[int], batch: int, seed: int) -> OfGeneration:
    """``subset=fixed``: the same examples for all generations, those that a first generation would have been asked."""
    drawn = search_portion(sizes, batch, seed)(0)
    return lambda generation: drawn


def disagreement_portion(
    sizes: Sequence[int], batch: int, seed: int, scores: Callable[[], NDArray[np.float64]]
) -> OfGeneration:
    """``subset=disagreement``: for all generations the examples on which models differ most in what they get right.

    Those with the greatest entropy of right and wrong over the models; the seed draws among equals.

    Args:
        sizes: As for ``search_portion``; each part gives its share.
        batch: Examples to choose.
        seed: Decides among equals.
        scores: Gives ``(n_models, n_examples)`` on the search split, in [0, 1], when the first generation asks for it.
    """
    if batch >= sum(sizes):
        return lambda generation: Portion("search")
    found: list[Portion] = []

    def portion(generation: int) -> Portion:
        if not found:
            values = np.round(_entropy(scores()), 12)
            chance = np.random.default_rng(seed)
            chosen: list[int] = []
            for start, size, share in zip(_starts(sizes), sizes, _shares(sizes, batch), strict=False):
                shuffled = chance.permutation(size)
                best = shuffled[np.argsort(-values[start + shuffled], kind="stable")[:share]]
                chosen += sorted((start + best).tolist())
            found.append(Portion("search", tuple(chosen)))
        return found[0]

    return portion


def growing(portion: Portion, sizes: Sequence[int], slices: int, seed: Sequence[int]) -> list[Portion]:
    """A portion in slices: so many portions, each with all of the one before it and twice as large, the last the whole.

    Args:
        portion: The whole.
        sizes: Examples of each part of the split; each part gives its share of every slice, and at least one.
        slices: How many.
        seed: Of the order in which examples come.
    """
    chance = np.random.default_rng(seed)
    wanted = np.arange(sum(sizes)) if portion.positions is None else np.asarray(portion.positions)
    ends = [*itertools.accumulate(sizes)]
    part_of = np.searchsorted(ends, wanted, side="right")
    orders = [chance.permutation(wanted[part_of == part]) for part in range(len(sizes))]
    found = []
    for doublings in range(slices - 1, 0, -1):
        drawn = [order[: max(1, round(len(order) / 2**doublings))] for order in orders]
        found.append(Portion(portion.split, tuple(sorted(np.concatenate(drawn).tolist())), portion.stage))
    # Of a few examples some slices would be alike, or the whole.
    n_before = [0, *(len(each.positions or ()) for each in found)]
    grown = [each for each, before in zip(found, n_before, strict=False) if before < len(each.positions or ()) < len(wanted)]
    return [*grown, portion]


def _starts(sizes: Sequence[int]) -> list[int]:
    return [*itertools.accumulate(sizes, initial=0)]


def _shares(sizes: Sequence[int], batch: int) -> list[int]:
    return [max(1, round(batch * size / sum(sizes))) for size in sizes]


def _entropy(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each column's mean as a probability, in bits; 0 for an example that nobody was asked."""
    asked = ~np.isnan(scores)
    right = np.clip(np.where(asked, scores, 0).sum(axis=0) / np.maximum(asked.sum(axis=0), 1), 0, 1)
    inside = (right > 0) & (right < 1)
    p = np.where(inside, right, 0.5)
    return np.where(inside, -p * np.log2(p) - (1 - p) * np.log2(1 - p), 0.0)
