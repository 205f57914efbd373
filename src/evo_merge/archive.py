"""The archive that a quality-diversity search ends in: niches, the candidates that hold them, and the record of both.

What the optimizer kept are genomes. The study knows them by their candidate numbers, so that is what its record holds; recipes,
scores and answers are found from there.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from evo_merge.models.reference import absolute_recipe
from evo_merge.niches import KeepsArchive, ScoreBins
from evo_merge.recipe import to_yaml
from evo_merge.study import Study

FOLDER = "archive"  # inside a run folder
_KEY = "archive"  # in the study, by stage


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
        path.write_text(to_yaml(absolute_recipe(study.candidate(number).recipe)), encoding="utf-8")
        files.append(path)
    return files
