"""What two models' headers say: tensors that one lacks, or that have other shapes, or another precision."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Set

import torch

from evo_merge.findings import Finding
from evo_merge.models.checks import kinds
from evo_merge.models.checks.facts import Facts
from evo_merge.models.checks.tokens import some

_LAYER = re.compile(r"\.(?:layers|h|blocks)\.(\d+)\.")
_HEADS = ("lm_head.weight", "embed_out.weight")


def compare_tensors(ours: Facts, theirs: Facts, known: Set[str]) -> list[Finding]:
    """What keeps the tensors of two models from being mixed one by one.

    Args:
        ours: A source.
        theirs: The base, or the first source: the merge has its tensors.
        known: Names of what is found in the configs already, so that what follows from it is not said again.
    """
    if ours.shapes is None or theirs.shapes is None:
        return []
    pair, names = f"{ours.label} and {theirs.label} differ in ", (ours.name, theirs.name)
    explained = _Explained(ours, theirs, known)
    found = []
    lost = [name for name in theirs.shapes if name not in ours.shapes and not explained.lacks(name)]
    missing = [name for name in lost if name not in ours.lacking()]
    spare = [name for name in ours.shapes if name not in theirs.shapes and not explained.lacks(name)]
    needed = [name for name in spare if ours.expected is None or name in ours.expected]
    if missing:
        found.append(kinds.MISSING_TENSORS.found(f"{pair}tensors: the first lacks {some(missing)}", *names))
    if needed := [name for name in needed if name not in theirs.lacking()]:
        found.append(kinds.MISSING_TENSORS.found(f"{pair}tensors: the second lacks {some(needed)}", *names))
    shapes = [
        f"{name} {shape} and {theirs.shapes[name]}"
        for name, shape in ours.shapes.items()
        if name in theirs.shapes and shape != theirs.shapes[name] and not explained.reshapes(name)
    ]
    if shapes:
        found.append(kinds.SHAPES.found(f"{pair}shapes: {some(shapes)}", *names))
    return found + _dtypes(ours, theirs)


class _Explained:
    """Differences between headers that follow from a finding about the configs."""

    def __init__(self, ours: Facts, theirs: Facts, known: Set[str]) -> None:
        self._known = known
        depths = [(facts.config or {}).get("num_hidden_layers") or 0 for facts in (ours, theirs)]
        self._shared_layers = min(depths)
        self._rows = [((facts.config or {}).get("vocab_size"), facts.shapes or {}) for facts in (ours, theirs)]

    def lacks(self, name: str) -> bool:
        """Whether it is known why one has no such tensor."""
        layer = _LAYER.search(name)
        return (
            ("layers" in self._known and layer is not None and int(layer[1]) >= self._shared_layers)
            or ("tied_weights" in self._known and name in _HEADS)
            or ("biases" in self._known and name.endswith(".bias"))
        )

    def reshapes(self, name: str) -> bool:
        """Whether it is known why it has two shapes."""
        if not self._known.isdisjoint({"sizes", "heads"}):
            return True
        if self._known.isdisjoint({"vocabulary_size", "padded_vocabulary", "vocabulary", "token_numbers"}):
            return False
        # Embeddings and head have a row a token.
        return all(rows is not None and shapes[name][:1] == (rows,) for rows, shapes in self._rows)


def _dtypes(ours: Facts, theirs: Facts) -> list[Finding]:
    """Where tensors of one name are stored in two precisions; a merge takes them, but their difference is partly rounding."""
    if ours.dtypes is None or theirs.dtypes is None or ours.adapter is not None or theirs.adapter is not None:
        return []  # what an adapter adds is added in float32
    pair, names = f"{ours.label} and {theirs.label}", (ours.name, theirs.name)
    if ours.is_gguf != theirs.is_gguf:
        one = ours if ours.is_gguf else theirs
        other = theirs if ours.is_gguf else ours
        return [kinds.QUANTISED_SOURCE.found(f"{one.label} is a GGUF file, and {other.label} is not", *names)]
    # Norms are often kept in float32, so most decide.
    first, second = (Counter(d for d in each.dtypes.values() if d.is_floating_point) for each in (ours, theirs))  # type: ignore[union-attr]
    if not first or not second:
        return []
    most = [_short(counted.most_common(1)[0][0]) for counted in (first, second)]
    if most[0] == most[1]:
        return []
    return [kinds.DTYPE.found(f"{pair} are stored in {most[0]} and {most[1]}", *names)]


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
