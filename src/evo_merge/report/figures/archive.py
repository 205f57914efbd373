"""The archive of a quality-diversity search: a heat map of its cells, or who of its members solves which problem."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, groupby

import numpy as np
from numpy.typing import NDArray

from evo_merge.niches import ScoreBins
from evo_merge.report.archive import Archive, Member
from evo_merge.report.figures.layout import legend
from evo_merge.report.results import RunResults
from evo_merge.report.svg import N_MODEL_COLOURS, Figure, group, line, number, rect, shorten, text, text_width, title
from evo_merge.report.wording import ScoreFormat
from evo_merge.statistics.intervals import is_binary

MOST_PANELS = 12
MOST_ROWS = 40
_LEVELS = 5  # shades
_PANEL = 272.0  # width of a map of two axes
_ROW = 18.0


@dataclass(frozen=True, slots=True)
class _Panel:
    """A map of the cells of one quality over one or two of the axes; of cells that differ in other axes the best is shown."""

    quality: int
    x: int
    y: int | None


def archive_figure(results: RunResults, width: float) -> Figure | None:
    """A map for every quality where the archive is a grid with axes, else a row a member and a column a problem."""
    archive = results.archive
    if archive is None:
        return None
    return _maps(archive, width) if len(archive.bins) > 1 else _sheet(archive, width)


def format_of(bins: ScoreBins) -> ScoreFormat:
    """Percent where the bins lie between 0 and 1."""
    return ScoreFormat(bins.low >= 0 and bins.high <= 1)


# -- a grid of scores ----------------------------------------------------------------------------------------------------------


def panels(archive: Archive) -> list[_Panel]:
    """Every quality with every pair of the other objectives, or with the one other."""
    found = []
    for quality in dict.fromkeys(niche.quality for niche in archive.niches):
        assert quality is not None, "an archive with bins has qualities"
        axes = [axis for axis in range(len(archive.bins)) if axis != quality]
        if len(axes) == 1:
            found.append(_Panel(quality, axes[0], None))
        found += [_Panel(quality, x, y) for x, y in combinations(axes, 2)]
    return found


def _maps(archive: Archive, width: float) -> Figure:
    drawn_panels = panels(archive)[:MOST_PANELS]
    is_strip = drawn_panels[0].y is None
    panel_width = width if is_strip else min(_PANEL, width)
    columns = max(1, int((width + 20) // (panel_width + 20)))
    body, left, top, row_height = [], 0.0, 0.0, 0.0
    for place, panel in enumerate(drawn_panels):
        if place and place % columns == 0:
            left, top, row_height = 0.0, top + row_height, 0.0
        drawn, height = _panel(archive, panel, left, top, panel_width)
        body += drawn
        left, row_height = left + panel_width + 20, max(row_height, height)
    n_cells = len(archive.niches)
    said = f"Archive of {len(archive.members)} candidates in {n_cells} cells of a grid of scores."
    return Figure(width, top + row_height, said, tuple(body))


def _panel(archive: Archive, panel: _Panel, left: float, top: float, width: float) -> tuple[list[str], float]:
    """The elements of a map, and the height it takes."""
    across = archive.bins[panel.x]
    up = None if panel.y is None else archive.bins[panel.y]
    margin = 0.0 if up is None else 58.0
    size = (width - margin) / across.n_bins
    height = 34.0 if up is None else size * up.n_bins
    begin, ceiling = left + margin, top + 24
    held = _holders(archive, panel)
    qualities = [quality for _, quality in held.values()]
    low, high = min(qualities), max(qualities)
    written = format_of(archive.bins[panel.quality])
    cells = []
    for (i, j), (member, quality) in sorted(held.items()):
        x, y = begin + i * size, ceiling + (0 if up is None else (up.n_bins - 1 - j) * size)
        share = (quality - low) / (high - low) if high > low else 1.0
        level = 1 + round(share * (_LEVELS - 1))
        tip = title(f"candidate {member.number}: {_scores_said(archive, member)}")
        cell_height = height if up is None else size
        class_ = "fill" if level == _LEVELS else f"fill shade{level}"
        cells.append(rect(x + 0.5, y + 0.5, size - 1, cell_height - 1, tip, class_=class_))
        value = written.tick(round(quality, 2)).removesuffix("%").rstrip()
        if size > text_width(value, 11) + 2:
            # Passed through, so that the tooltip under it is still shown.
            cells.append(text(x + size / 2, y + cell_height / 2 + 4, value, "small halo", "middle", pointer_events="none"))
    heading = f"best {archive.fitness[panel.quality]}: {written.interval(low, high)}"
    drawn = [
        text(begin, top + 14, shorten(heading, width - margin), "strong"),
        rect(begin, ceiling, width - margin, height, class_="panel"),
        group(cells, class_=f"model{panel.quality % N_MODEL_COLOURS}"),
        *_axis_across(archive, panel.x, begin, ceiling + height, width - margin),
    ]
    if panel.y is not None:
        drawn += _axis_up(archive, panel.y, begin, ceiling, height)
    return drawn, height + 24 + 52


def _holders(archive: Archive, panel: _Panel) -> dict[tuple[int, int], tuple[Member, float]]:
    """Who is shown in each cell ``(x, y)``, with its quality."""
    members = {member.number: member for member in archive.members}
    axes = [axis for axis in range(len(archive.bins)) if axis != panel.quality]
    found: dict[tuple[int, int], tuple[Member, float]] = {}
    for niche in archive.niches:
        if niche.quality != panel.quality:
            continue
        bins = dict(zip(axes, niche.cell, strict=True))
        cell = (bins[panel.x], 0 if panel.y is None else bins[panel.y])
        member = members[niche.candidate]
        quality = float(member.search.fitness[panel.quality])
        if cell not in found or quality > found[cell][1]:
            found[cell] = (member, quality)
    return found


def _axis_across(archive: Archive, axis: int, left: float, y: float, width: float) -> list[str]:
    bins = archive.bins[axis]
    written = format_of(bins)
    drawn = [line([(left, y), (left + width, y)], "axis")]
    for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        value = bins.low + share * (bins.high - bins.low)
        drawn.append(text(left + share * width, y + 15, written.tick(value), "small muted", anchor))
    drawn.append(text(left + width / 2, y + 31, shorten(archive.fitness[axis], width, 11), "small", "middle"))
    return drawn


def _axis_up(archive: Archive, axis: int, x: float, top: float, height: float) -> list[str]:
    bins = archive.bins[axis]
    written = format_of(bins)
    drawn = [line([(x, top), (x, top + height)], "axis")]
    for share, shift in ((0.0, 0.0), (0.5, 4.0), (1.0, 10.0)):
        value = bins.low + share * (bins.high - bins.low)
        drawn.append(text(x - 5, top + (1 - share) * height + shift, written.tick(value), "small muted", "end"))
    middle, at = top + height / 2, x - 46
    turned = f"rotate(-90 {number(at)} {number(middle)})"
    drawn.append(text(at, middle, shorten(archive.fitness[axis], height, 11), "small", "middle", transform=turned))
    return drawn


def _scores_said(archive: Archive, member: Member) -> str:
    pairs = zip(archive.fitness, archive.bins, member.search.fitness.tolist(), strict=True)
    return ", ".join(f"{name} {format_of(bins).score(score)}" for name, bins, score in pairs)


# -- members and problems ------------------------------------------------------------------------------------------------------


def _sheet(archive: Archive, width: float) -> Figure | None:
    """Rows from all together down to each member; columns by how many members do well, each objective by itself."""
    found = [(objective, archive.scores(objective)) for objective in archive.objectives]
    sheets = [(objective, scores) for objective, scores in found if scores is not None]
    if not sheets:
        return None
    numbers = list(dict.fromkeys(niche.candidate for niche in archive.niches))[:MOST_ROWS]
    row_of = {member.number: row for row, member in enumerate(archive.members)}
    names = ["all together", *(f"candidate {candidate}" for candidate in numbers)]
    label = max(text_width(name) for name in names) + 14
    n_problems = sum(scores.shape[1] for _, scores in sheets)
    cell = (width - label) / n_problems
    words = ("solved", "solved by this member alone")
    if not all(is_binary(scores) for _, scores in sheets):
        words = ("score, the stronger the colour the higher", "above every other member")
    key, taken = legend([("model0", "dot", words[0]), ("best", "dot", words[1])], label, 2, width - label)
    top = taken + 20
    body = list(key)
    bottom = top + _ROW * len(names)
    left = label
    for objective, scores in sheets:
        levels, alone = _levels(scores)  # (n_members, n_problems) each
        order = np.lexsort((*levels[::-1], -levels.sum(axis=0)))
        extent = cell * scores.shape[1]
        body.append(text(left + 2, top - 5, shorten(objective, extent - 4, 11), "small strong"))
        rows = [levels.max(axis=0)[order]] + [levels[row_of[candidate]][order] for candidate in numbers]
        lonely = [np.zeros(len(order), dtype=bool)] + [alone[row_of[candidate]][order] for candidate in numbers]
        for place, (row, single) in enumerate(zip(rows, lonely, strict=True)):
            y = top + _ROW * place
            body.append(rect(left, y, extent - 1, _ROW - 3, class_="panel"))
            body += _cells(row, single, left, y, cell, "model0" if place else "unoptimised")
        left += extent
    for place, name in enumerate(names):
        body.append(text(label - 9, top + _ROW * place + 12, name, "small" if place else "small strong", "end"))
    said = f"What each of {len(numbers)} members of the archive scores on {n_problems} search problems."
    return Figure(width, bottom + 4, said, tuple(body))


def _levels(scores: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Shade of each score between the lowest and the highest of all, and whether it is above every other member's."""
    low, high = float(min(scores.min(), 0.0)), float(scores.max())
    levels = np.ceil((scores - low) / (high - low) * _LEVELS).astype(np.int64) if high > low else np.zeros(scores.shape, int)
    if len(scores) < 2:
        return levels, np.zeros(scores.shape, dtype=bool)
    ordered = np.sort(scores, axis=0)
    return levels, (scores == ordered[-1]) & (ordered[-1] > ordered[-2])


def _cells(
    levels: NDArray[np.int64], alone: NDArray[np.bool_], left: float, y: float, cell: float, class_: str
) -> Sequence[str]:
    """Neighbouring problems that look alike are one rectangle."""
    drawn, begin = [], 0
    for (level, single), run in groupby(zip(levels.tolist(), alone.tolist(), strict=True)):
        length = len(list(run))
        if level:
            shade = "fill" if level == _LEVELS else f"fill shade{level}"
            filled = rect(left + begin * cell, y, length * cell, _ROW - 3, class_=shade)
            drawn.append(group([filled], class_="best" if single else class_))
        begin += length
    return drawn
