"""The archive of a run in words and numbers, as the page shows them."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evo_merge.archive import FOLDER, HeldNiche
from evo_merge.report.archive import Archive, Member, Together, leads, niches_of, together
from evo_merge.report.figures.archive import MOST_PANELS, MOST_ROWS, format_of, panels
from evo_merge.report.wording import ScoreFormat, counted, listing

_MOST_MEMBERS = 30  # rows of the table
_MOST_PLACES = 2  # niches of a member that are named


@dataclass(frozen=True, slots=True)
class TogetherRow:
    """What all members reach on one objective and split, beside the best of them."""

    objective: str
    split: str
    n: int
    any_member: str
    best_means: str
    best_member: str
    best_number: int


@dataclass(frozen=True, slots=True)
class MemberRow:
    """A member: its scores in the order of the objectives, on how many problems it is ahead of all, what it holds."""

    number: int
    scores: tuple[str, ...]
    leads: int
    places: str


@dataclass(frozen=True, slots=True)
class ArchiveWords:
    """What the page's part about the archive is filled with."""

    explanation: str
    objectives: tuple[str, ...]
    together: tuple[TogetherRow, ...]
    command: str
    members: tuple[MemberRow, ...]
    n_left_out: int
    has_places: bool


def archive_words(archive: Archive, run_folder: Path) -> ArchiveWords:
    """All that is said of an archive; the folder is named in a command."""
    found, ahead, held = together(archive), leads(archive), niches_of(archive)
    rows = {
        member.number: MemberRow(member.number, _scores(archive, member), lead, _places(archive, held[member.number]))
        for member, lead in zip(archive.members, ahead, strict=True)
    }
    numbers = list(dict.fromkeys(niche.candidate for niche in archive.niches))  # the strongest competitor first
    if archive.bins:
        numbers.sort(key=lambda number: (-len(held[number]), number))
    recipe = run_folder / FOLDER / f"{numbers[0]}.yaml"
    return ArchiveWords(
        explanation=_explanation(archive),
        objectives=archive.objectives,
        together=tuple(_together_row(row) for row in found),
        command=f"python -m evo_merge.build recipe={shlex.quote(str(recipe))} out=merged",
        members=tuple(rows[number] for number in numbers[:_MOST_MEMBERS]),
        n_left_out=max(0, len(numbers) - _MOST_MEMBERS),
        has_places=len(archive.bins) > 1,
    )


def _explanation(archive: Archive) -> str:
    count = counted(len(archive.members), "candidate")
    if not archive.bins:
        shown = f" The {MOST_ROWS} strongest are shown." if len(archive.members) > MOST_ROWS else ""
        return (
            f"The search kept {count} that compete for problems: a problem is shared by all who solve it, so that one which "
            "solves what others cannot lives on although its mean is low. A row is a member, the strongest competitor first; a "
            f"column is one problem of the search split, those that most solve on the left.{shown}"
        )
    if len(archive.bins) == 1:
        return (
            f"With one objective a grid of scores has no axes, so the archive is just the {count} that scored best. A row is a "
            "member; a column is one problem of the search split, those that most solve on the left."
        )
    cells = counted(len(archive.niches), "cell")
    qualities = [archive.fitness[q] for q in dict.fromkeys(niche.quality for niche in archive.niches) if q is not None]
    grids = f"{len(qualities)} grids, one for each of {listing(qualities)}" if len(qualities) > 1 else "a grid"
    said = (
        f"The search kept {count} in {cells} of {grids}: of candidates that are alike in the other objectives the one stays "
        f"that is best in {'it' if len(qualities) > 1 else qualities[0]}. The stronger the colour, the better."
    )
    if len(archive.bins) > 3:
        said += " A map shows two of the axes, and in each cell the best along the others."
    n_maps = len(panels(archive))
    return said if n_maps <= MOST_PANELS else f"{said} Of {n_maps} maps the first {MOST_PANELS} are shown."


def _together_row(row: Together) -> TogetherRow:
    return TogetherRow(
        objective=row.objective,
        split=row.split,
        n=row.n,
        any_member=_reached(row, row.any_member),
        best_means="–" if row.best_means is None else _reached(row, row.best_means),
        best_member=_reached(row, row.best_member),
        best_number=row.best_number,
    )


def _reached(row: Together, mean: float) -> str:
    return f"{round(mean * row.n)} of {row.n}" if row.is_binary else f"{mean:.3f}"


def _scores(archive: Archive, member: Member) -> tuple[str, ...]:
    means = member.search.means
    written = ScoreFormat(all(0 <= means[name] <= 1 for name in archive.objectives))
    return tuple(written.score(means[name]) for name in archive.objectives)


def _places(archive: Archive, niches: Sequence[HeldNiche]) -> str:
    if len(archive.bins) < 2:
        return ""
    said = [_place(archive, niche) for niche in niches[:_MOST_PLACES]]
    left = len(niches) - len(said)
    return "; ".join(said) + (f"; and {counted(left, 'cell')} more" if left else "")


def _place(archive: Archive, niche: HeldNiche) -> str:
    """``best ja where en is 40 % to 50 %``."""
    assert niche.quality is not None, "an archive with bins has qualities"
    axes = [axis for axis in range(len(archive.bins)) if axis != niche.quality]
    where = [f"{archive.fitness[axis]} is {_bin(archive, axis, place)}" for axis, place in zip(axes, niche.cell, strict=True)]
    return f"best {archive.fitness[niche.quality]} where {listing(where)}"


def _bin(archive: Archive, axis: int, place: int) -> str:
    bins = archive.bins[axis]
    low, high = bins.edges(place)
    written = format_of(bins)
    if place == 0:
        return f"below {_edge(written, high)}"
    if place == bins.n_bins - 1:
        return f"{_edge(written, low)} or more"
    return f"{_edge(written, low)} to {_edge(written, high)}"


def _edge(written: ScoreFormat, value: float) -> str:
    return written.tick(float(f"{value:.3g}"))  # 0.30000000000000004
