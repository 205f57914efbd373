"""A small sample of each tensor's values, and what it tells: broken numbers, copies, strangers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import prod, sqrt

import torch
from torch import Tensor

from evo_merge.errors import EvoMergeError, ModelError
from evo_merge.findings import Finding
from evo_merge.mergeability import ancestry
from evo_merge.models.checks import kinds
from evo_merge.models.checks.facts import Facts
from evo_merge.models.checks.tokens import some
from evo_merge.models.copies import are_copies, copies_text

_WHOLE = 1 << 14  # entries; tensors up to this size are looked at whole
_BLOCKS, _BLOCK = 8, 512  # of larger tensors; a block is a page or less of the file, so that few bytes are fetched
_HEAD = "lm_head.weight"


@dataclass(frozen=True)
class Sampled:
    """One model and the values that were looked at.

    Attributes:
        facts: Of the model.
        values: By tensor, ``(n,)`` in the stored dtype: the same entries of every model with that shape.
    """

    facts: Facts
    values: Mapping[str, Tensor]


def sample(facts: Facts) -> Sampled | None:
    """Read the sample; ``None`` where that would mean building the model first, or where its weights are not here.

    Adapters are looked at by themselves (``adapters.py``), and recipes when they are built.

    Raises:
        ModelError: A tensor cannot be read.
    """
    if facts.stored is None or facts.adapter is not None or facts.shapes is None or not facts.can_be_read:
        return None
    read = facts.stored.weights.read  # not the model's own, which looks at all values
    return Sampled(facts, {name: _entries(read(name)) for name in facts.shapes if facts.stored.dtypes[name].is_floating_point})


def findings_in_values(
    base: Sampled | None, sources: Sequence[Sampled], refused: Collection[str], by_token: Collection[str] = ()
) -> Iterator[Finding]:
    """What the sampled values tell; where a model comes from is not asked of those that are refused for something else.

    Args:
        base: What the sources were tuned from, where there is one.
        sources: The others.
        refused: Names of models that are refused already.
        by_token: Tensors whose rows are matched by token, so that the same places of two models do not belong together.
    """
    everyone = sources if base is None else (base, *sources)
    broken = [finding for each in everyone for finding in _not_finite(each)]
    yield from broken
    yield from (finding for each in everyone for finding in _tied_copy(each))
    out = {*refused, *(name for finding in broken for name in finding.models)}
    sound = [each for each in everyone if each.facts.name not in out]
    yield from _zeros(sound)
    if base is not None:
        sound_sources = [each for each in sources if each in sound and base in sound]
        yield from (finding for each in sound_sources for finding in _of_ancestry(each, base, by_token))
        return
    for first, second in combinations([each for each in sources if each in sound], 2):
        distance, cosine = _apart(first, second, by_token)
        if ancestry(distance, cosine) == "no":
            text = f"{first.facts.label} and {second.facts.label} have no ancestor in common {_measured(distance, cosine)}"
            yield kinds.NO_COMMON_ANCESTOR.found(text, first.facts.name, second.facts.name)


def copies_among(sources: Sequence[Facts], sampled: Mapping[str, Sampled]) -> Iterator[Finding]:
    """Sources that are one model under two names. Suspicion is one reference, or one sample; then all values are compared.

    Args:
        sources: All sources of a pool.
        sampled: Those that were sampled, by name.
    """
    for first, second in combinations(sources, 2):
        reason = ""
        if first.model.reference == second.model.reference:
            reason = "the same reference"
        elif first.name in sampled and second.name in sampled:
            if _are_alike(sampled[first.name], sampled[second.name]) and are_copies(first.model, second.model, by_ends=False):
                reason = "all tensors are equal"
        elif first.can_be_read and second.can_be_read and are_copies(first.model, second.model, by_ends=True):
            reason = "all tensors are equal"
        if reason:
            yield kinds.COPIES.found(copies_text(first.model, second.model, reason), first.name, second.name)


def places(n_entries: int) -> list[tuple[int, int]]:
    """Which entries of a flattened tensor are looked at: all of a small one, or blocks spread from the first to the last."""
    if n_entries <= _WHOLE:
        return [(0, n_entries)]
    starts = torch.linspace(0, n_entries - _BLOCK, _BLOCKS, dtype=torch.float64).long().tolist()
    return [(start, start + _BLOCK) for start in starts]


def _entries(tensor: Tensor) -> Tensor:
    """What is looked at; a copy, not a view of the file."""
    flat = tensor.detach().flatten()
    return torch.cat([flat[start:stop] for start, stop in places(flat.numel())])


def _not_finite(sampled: Sampled) -> list[Finding]:
    bad = [name for name, values in sampled.values.items() if not torch.isfinite(values).all()]
    if not bad:
        return []
    more = f" (and {len(bad) - 1} more tensors)" if len(bad) > 1 else ""
    return [kinds.NOT_FINITE.found(f"{sampled.facts.label} has a NaN or an infinity in '{bad[0]}'{more}", sampled.facts.name)]


def _tied_copy(sampled: Sampled) -> list[Finding]:
    """A head in the file of a model that ties it, which transformers puts aside."""
    facts = sampled.facts
    stored = facts.stored
    if stored is None or not (facts.config or {}).get("tie_word_embeddings") or _HEAD not in stored.weights.shapes:
        return []
    head = _entries(stored.weights.read(_HEAD))
    own = [name for name in ("model.embed_tokens.weight", "transformer.wte.weight") if name in sampled.values]
    if not own or (head.shape == sampled.values[own[0]].shape and torch.equal(head, sampled.values[own[0]])):
        return []
    text = f"{facts.label} ties its head to its embeddings, but stores '{_HEAD}' with other numbers"
    return [kinds.TIED_COPY_DIFFERS.found(text, facts.name)]


def _zeros(sampled: Sequence[Sampled]) -> Iterator[Finding]:
    """Vectors may be zero by right: biases, and norms that are added to one."""
    for each in sampled:
        others = [other for other in sampled if other is not each]
        empty = [
            name
            for name, values in each.values.items()
            if len((each.facts.shapes or {})[name]) > 1
            and not values.any()
            and (not others or any(name in other.values and other.values[name].any() for other in others))
        ]
        if empty:
            yield kinds.ZERO_TENSORS.found(f"{each.facts.label} has nothing but zeros in {some(empty)}", each.facts.name)


def _of_ancestry(source: Sampled, base: Sampled, by_token: Collection[str]) -> Iterator[Finding]:
    if _are_alike(source, base):
        text = f"{source.facts.label} is the base itself, in all values that were looked at: it has no task vector"
        yield kinds.SAME_AS_BASE.found(text, source.facts.name)
        return
    distance, cosine = _apart(source, base, by_token)
    verdict = ancestry(distance, cosine)
    if verdict == "no":
        text = f"{source.facts.label} does not descend from the base {base.facts.label} {_measured(distance, cosine)}"
        yield kinds.NOT_DESCENDED.found(text, source.facts.name)
    elif verdict == "doubtful":
        text = f"{source.facts.label} is far from the base {base.facts.label} {_measured(distance, cosine)}"
        yield kinds.FAR_FROM_BASE.found(text, source.facts.name)


def _are_alike(first: Sampled, second: Sampled) -> bool:
    """Whether all values that were looked at are the same numbers."""
    if first.facts.shapes != second.facts.shapes or first.values.keys() != second.values.keys():
        return False
    return all(torch.equal(values.float(), second.values[name].float()) for name, values in first.values.items())


def _apart(first: Sampled, second: Sampled, by_token: Collection[str]) -> tuple[float, float]:
    """Norm of the difference over that of the second, and cosine of the matrices, both estimated from the sample.

    Sums over a sampled tensor stand for as many entries as it has.
    """
    shapes = first.facts.shapes or {}
    product = own = other = between = 0.0
    near = whole = 0.0
    for name, values in first.values.items():
        if name in by_token or name not in second.values or second.values[name].shape != values.shape or not len(values):
            continue
        share = prod(shapes[name]) / len(values)
        ours, theirs = values.double(), second.values[name].double()
        near += share * float((ours - theirs).square().sum())
        whole += share * float(theirs.square().sum())
        if len(shapes[name]) > 1:  # vectors of norms are near one in all models, so that strangers agree in them
            product += share * float(ours @ theirs)
            own += share * float(ours.square().sum())
            other += share * float(theirs.square().sum())
    between = sqrt(own * other)
    return (sqrt(near / whole) if whole > 0 else 0.0), (product / between if between > 0 else 1.0)


def _measured(distance: float, cosine: float) -> str:
    return f"(relative norm {distance:.2g}, cosine of the matrices {cosine:.2f}, on a sample)"


def sampled_or_finding(facts: Facts) -> tuple[Sampled | None, list[Finding]]:
    """The sample of a model, or why it cannot be read."""
    try:
        return sample(facts), []
    except ModelError as error:
        return None, [kinds.of_error(error, facts.name)]
    except (EvoMergeError, OSError, RuntimeError) as error:
        return None, [kinds.UNREADABLE.found(f"{facts.label} cannot be read: {error}", facts.name)]
