"""How mergeable a pool is, as values: what one pass over the weights found, and what that means in words.

The pass itself is in ``models/measure_pool.py``; what the numbers mean and where the thresholds come from, in
``docs/mergeability.md``.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from evo_merge.findings import Finding

Ancestry = Literal["yes", "doubtful", "no"]

NEAR = 0.5  # of a norm: further training rarely moves a model as far
FAR = 1.0  # of a norm: as far as from no model at all
LIKE = 0.85  # cosine of the matrices at a distance of NEAR, rounded down
UNLIKE = 0.5  # cosine of the matrices below which two models have too little in common
ALIKE = 0.9  # cosine of task vectors above which two sources say the same
OPPOSED = -0.1  # cosine of task vectors below which one undoes the other
TORN = 0.6  # share of opposite signs; of normal entries, what a cosine of -0.31 gives
UNEVEN = 10.0  # times the norm of another task vector
MOST = 6  # sentences of one kind
_NAME = "mergeability"  # of its findings


@dataclass(frozen=True, slots=True)
class SourceMeasure:
    """One source, and its task vector where the pool has a base.

    Attributes:
        name: What the pool calls it.
        norm: Euclidean norm of its weights.
        task_norm: Euclidean norm of its task vector, source minus base.
        relative_norm: ``task_norm`` over the norm of the base.
        changed: Share of the entries, 0 to 1, in which it differs from the base.
        base_cosine: Cosine between its matrices and the base's, -1 to 1. Vectors, such as the weights of norms, are left out:
            they are near one in all models, so that strangers agree in them.
        other_dtype: Where its tensors are stored in another dtype than the base's: ``bfloat16 beside float32``.
    """

    name: str
    norm: float
    task_norm: float | None = None
    relative_norm: float | None = None
    changed: float | None = None
    base_cosine: float | None = None
    other_dtype: str | None = None

    @property
    def descends(self) -> Ancestry | None:
        """Whether it was tuned from the base; ``None`` where there is none."""
        if self.relative_norm is None or self.base_cosine is None:
            return None
        return ancestry(self.relative_norm, self.base_cosine)


@dataclass(frozen=True, slots=True)
class PairMeasure:
    """Two sources beside each other; what is about task vectors is ``None`` where they are not defined.

    Attributes:
        first: Name of one source.
        second: Name of the other.
        distance: Norm of the difference of their weights, over the mean of their norms.
        weight_cosine: Cosine between their matrices; see ``base_cosine``.
        cosine: Cosine between their task vectors.
        kinship: Pearson's correlation between their task vectors (Hu et al. 2024, https://arxiv.org/abs/2410.12613).
        sign_conflict: Share of the entries that both changed in which the signs differ, 0 to 1; independent ones give 0.5.
        weighted_conflict: The same, each entry weighted by the product of both magnitudes, so that large changes count.
    """

    first: str
    second: str
    distance: float
    weight_cosine: float
    cosine: float | None = None
    kinship: float | None = None
    sign_conflict: float | None = None
    weighted_conflict: float | None = None

    @property
    def are_kin(self) -> Ancestry:
        """Whether they have an ancestor in common."""
        return ancestry(self.distance, self.weight_cosine)


@dataclass(frozen=True, slots=True)
class Mergeability:
    """What one pass over the weights of a pool found.

    Attributes:
        base: Reference of the base, or ``None`` where the pool has none; then no task vectors are defined.
        base_norm: Euclidean norm of its weights.
        n_weights: Entries of one model that were compared.
        sources: In the order of the pool.
        pairs: Each two of them once, (0, 1), (0, 2), …, (1, 2), ….
    """

    base: str | None
    base_norm: float | None
    n_weights: int
    sources: tuple[SourceMeasure, ...]
    pairs: tuple[PairMeasure, ...]

    @property
    def mean_kinship(self) -> float | None:
        """Of all pairs, which is the kinship of more than two models; ``None`` where no pair has one."""
        known = [pair.kinship for pair in self.pairs if pair.kinship is not None]
        return sum(known) / len(known) if known else None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What the numbers mean: first what speaks against merging, or that nothing does, then the rest."""
        return self._against() + _notes((*self._descents(), *self._conflicts(), *self._rounded()))

    @property
    def remarks(self) -> tuple[Finding, ...]:
        """The findings without what a table of the sources and a map of their pairs show as numbers."""
        return self._against() + _notes((*(self._kin() if self.base is None else ()), *self._rounded()))

    def _against(self) -> tuple[Finding, ...]:
        """What speaks against merging, or that nothing does."""
        found = [_of_source(source) for source in self.sources]
        found += [self._of_pair(pair) for pair in self.pairs]
        found += [self._of_norms()]
        warnings = tuple(Finding(_NAME, "warning", text) for text in found if text)
        return warnings or _notes(("Nothing here speaks against merging.",))

    def pair(self, first: str, second: str) -> PairMeasure | None:
        """The measures of two sources, in either order; ``None`` for a source and itself."""
        return next((pair for pair in self.pairs if {pair.first, pair.second} == {first, second}), None)

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Mergeability":
        """What ``to_json`` wrote."""
        fields: dict[str, Any] = json.loads(text)
        sources = tuple(SourceMeasure(**record) for record in fields.pop("sources"))
        pairs = tuple(PairMeasure(**record) for record in fields.pop("pairs"))
        return cls(**fields, sources=sources, pairs=pairs)

    def _of_pair(self, pair: PairMeasure) -> str:
        """What speaks against merging two sources with each other; empty where nothing does."""
        names = f"'{pair.first}' and '{pair.second}'"
        if self.base is None:
            measured = f"(relative distance {pair.distance:.2g}, cosine of the matrices {pair.weight_cosine:.2f})"
            if pair.are_kin == "no":
                return f"{names} have no ancestor in common {measured}: their weights cannot be mixed."
            return f"{names} are far from each other {measured}: long training, or other ancestors." * (pair.are_kin != "yes")
        descents = {source.descends for source in self.sources if source.name in (pair.first, pair.second)}
        if descents == {"no"} and pair.are_kin == "yes":
            return f"{names} are much nearer to each other than to the base: is it the right base?"
        if "no" in descents or pair.cosine is None or pair.sign_conflict is None:
            return ""
        if pair.cosine >= ALIKE:
            return f"{names} have nearly the same task vector (cosine {pair.cosine:.2f}): together it counts twice; one may do."
        if pair.cosine <= OPPOSED:
            return f"{names} {_pull(pair)} and have cosine {pair.cosine:.2f}: each undoes some of what the other learnt."
        if pair.sign_conflict > TORN:
            return f"{names} {_pull(pair)}: far more than by chance; what one adds to those the other takes away."
        return ""

    def _of_norms(self) -> str:
        moved = [(source.task_norm, source.name) for source in self.sources if source.task_norm]
        (least, short), (most, long) = min(moved, default=(1.0, "")), max(moved, default=(1.0, ""))
        if most < UNEVEN * least:
            return ""
        times = f"{most / least:.0f} times as long as that of '{short}'"
        return f"The task vector of '{long}' is {times}, and drowns it at equal weights."

    def _descents(self) -> list[str]:
        """Where everything comes from, as it should be."""
        if self.base is None:
            return ["Without a base no task vectors are defined: the weights themselves are compared.", *self._kin()]
        near = [source for source in self.sources if source.descends == "yes" and source.relative_norm]
        said = [f"'{s.name}' descends from the base (relative norm {s.relative_norm:.2g})." for s in near]
        return _capped(said, "sources descend from the base")

    def _kin(self) -> list[str]:
        """Pairs with an ancestor in common."""
        kin = [f"'{pair.first}' and '{pair.second}'" for pair in self.pairs if pair.are_kin == "yes"]
        return _capped([f"{names} have an ancestor in common." for names in kin], "pairs have an ancestor in common")

    def _conflicts(self) -> list[str]:
        """How much of what two sources changed pulls apart, where that is nothing to worry about."""
        descents = {source.name: source.descends for source in self.sources}
        pairs = [pair for pair in self.pairs if "no" not in (descents[pair.first], descents[pair.second])]
        measured = [p for p in pairs if p.cosine is not None and p.sign_conflict is not None]
        apart = [p for p in measured if OPPOSED < (p.cosine or 0.0) < ALIKE and (p.sign_conflict or 0.0) <= TORN]
        if len(apart) > MOST:
            low, *_, high = sorted(apart, key=lambda p: p.sign_conflict or 0.0)
            extremes = [f"'{p.first}' and '{p.second}' {_pull(p)}" for p in (low, high)]
            return [f"Of {len(apart)} pairs, from {' to '.join(extremes)}."]
        said = [f"'{p.first}' and '{p.second}' {_pull(p)}." for p in apart]
        return said + _capped(
            [
                f"'{p.first}' and '{p.second}' changed no entry in common."
                for p in pairs
                if p.cosine is not None and p.sign_conflict is None
            ],
            "pairs of sources changed no entry in common",
        )

    def _rounded(self) -> list[str]:
        """Sources whose numbers of entries tell of rounding."""
        said = [
            f"'{source.name}' is stored in another dtype than the base ({source.other_dtype})"
            for source in self.sources
            if source.other_dtype
        ]
        if len(said) > MOST:
            said = [f"{len(said)} sources are stored in another dtype than the base"]
        return [f"{each}: many of the changed entries and opposite signs may be rounding." for each in said]


def _notes(texts: Iterable[str]) -> tuple[Finding, ...]:
    return tuple(Finding(_NAME, "note", text) for text in texts)


def _of_source(source: SourceMeasure) -> str:
    """What speaks against merging a source; empty where nothing does."""
    if source.relative_norm is None or source.base_cosine is None:
        return ""
    if source.relative_norm == 0:
        return f"'{source.name}' is the base itself: it has no task vector and adds nothing; drop it."
    measured = f"(relative norm {source.relative_norm:.2g}, cosine of the matrices {source.base_cosine:.2f})"
    if source.descends == "no":
        return f"'{source.name}' does not descend from the base {measured}: choose models tuned from it."
    return f"'{source.name}' is far from the base {measured}: long training, or another ancestor." * (source.descends != "yes")


def _pull(pair: PairMeasure) -> str:
    assert pair.sign_conflict is not None
    return f"pull {100 * pair.sign_conflict:.0f} % of the entries that both changed in opposite directions (chance: 50 %)"


def _capped(sentences: list[str], counted: str) -> list[str]:
    """A sentence each, or one for all where they are many."""
    return sentences if len(sentences) <= MOST else [f"{len(sentences)} {counted}."]


def ancestry(distance: float, cosine: float) -> Ancestry:
    """Whether two models have an ancestor in common.

    Args:
        distance: Norm of the difference of their weights, over that of the one or the mean of both.
        cosine: Between their matrices.
    """
    if distance >= FAR or cosine < UNLIKE:
        return "no"
    return "yes" if distance < NEAR and cosine >= LIKE else "doubtful"
