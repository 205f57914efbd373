"""The archive that a quality-diversity search ends in: niches, the candidates that hold them, and the record of both.

What the optimizer kept are genomes. The study knows them by their candidate numbers, so that is what its record holds; recipes,
scores and answers are found from there.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from evo_merge.genome import Genome
from evo_merge.recipe import to_yaml
from evo_merge.study import Study

FOLDER = "archive"  # inside a run folder
_KEY = "archive"  # in the study, by stage


@dataclass(frozen=True, slots=True)
class ScoreBins:
    """Equal bins of one objective's scores; what lies outside the range counts to the first or the last.

    Attributes:
        n_bins: How many there are.
        low: Where the first begins.
        high: Where the last ends.
    """

    n_bins: int
    low: float
    high: float

    def bin_of(self, score: float) -> int:
        """The bin of a score, from 0; its lower edge belongs to it."""
        place = self.n_bins * (score - self.low) / (self.high - self.low)
        return int(min(max(place, 0), self.n_bins - 1))

    def edges(self, number: int) -> tuple[float, float]:
        """Where a bin begins and ends."""
        width = (self.high - self.low) / self.n_bins
        return self.low + number * width, self.low + (number + 1) * width


@dataclass(frozen=True, slots=True)
class Niche:
    """A place in an archive, and who holds it.

    Attributes:
        genome: ``(dim,)``, of the holder.
        fitness: ``(n_objectives,)``, of the holder.
        quality: Number of the objective that candidates compete by in this place; ``None`` where they compete for single
            problems.
        cell: Bins of the other objectives, in their order; empty where the place is not one of a grid.
    """

    genome: Genome
    fitness: NDArray[np.float64]
    quality: int | None
    cell: tuple[int, ...]


@runtime_checkable
class KeepsArchive(Protocol):
    """An optimizer that ends in more than one model."""

    def expect(self, n_objectives: int, *, is_batched: bool) -> None:
        """What the search will tell: so many objectives, and of other problems each generation or always the same.

        Raises:
            ConfigError: The optimizer's options do not fit it.
        """

    @property
    def bins(self) -> tuple[ScoreBins, ...]:
        """One an objective where the archive is a grid of scores; empty where it is not."""

    def niches(self) -> list[Niche]:
        """Every place that somebody holds, in a fixed order."""


@dataclass(frozen=True, slots=True)
class HeldNiche:
    """A niche as a study keeps it: ``quality`` and ``cell`` as in ``Niche``, and the number of the candidate that holds it."""

    quality: int | None
    cell: tuple[int, ...]
    candidate: int


@dataclass(frozen=True, slots=True)
class ArchiveRecord:
    """The archive of one search: its bins, one an objective or none, and its niches."""

    bins: tuple[ScoreBins, ...]
    niches: tuple[HeldNiche, ...]

    @property
    def candidates(self) -> tuple[int, ...]:
        """Numbers of the candidates that hold a niche, each once, in order."""
        return tuple(sorted({niche.candidate for niche in self.niches}))


def record_archive(study: Study, optimizer: object, stage: str = "") -> None:
    """Keep the archive of a stage's optimizer in the study, over an earlier one; does nothing where it has none."""
    if not isinstance(optimizer, KeepsArchive):
        return
    numbers: dict[bytes, int] = {}
    for candidate in study.candidates():
        if candidate.stage == stage:
            numbers.setdefault(candidate.genome.tobytes(), candidate.number)
    niches = [HeldNiche(n.quality, n.cell, numbers[n.genome.tobytes()]) for n in optimizer.niches()]
    kept = json.loads(study.get(_KEY) or "{}")
    kept[stage] = asdict(ArchiveRecord(optimizer.bins, tuple(niches)))
    study.set(_KEY, json.dumps(kept))


def read_archive(study: Study, stage: str = "") -> ArchiveRecord | None:
    """What was recorded for a stage; ``None`` where nothing was."""
    found = json.loads(study.get(_KEY) or "{}").get(stage)
    if found is None:
        return None
    bins = tuple(ScoreBins(**record) for record in found["bins"])
    niches = tuple(HeldNiche(n["quality"], tuple(n["cell"]), n["candidate"]) for n in found["niches"])
    return ArchiveRecord(bins, niches)


def write_archive(folder: Path, study: Study, stages: Sequence[str] = ("",)) -> list[Path]:
    """Write the recipe of every holder as ``archive/<candidate number>.yaml``, in place of those of an earlier session.

    Returns:
        The files; none where no stage has an archive.
    """
    records = [record for stage in stages if (record := read_archive(study, stage)) is not None]
    numbers = sorted({number for record in records for number in record.candidates})
    target = folder / FOLDER
    shutil.rmtree(target, ignore_errors=True)
    if numbers:
        target.mkdir(parents=True)
    files = []
    for number in numbers:
        path = target / f"{number}.yaml"
        path.write_text(to_yaml(study.candidate(number).recipe), encoding="utf-8")
        files.append(path)
    return files
