"""How the sources lie to each other before they are merged: a heat map of cosines and one of opposite signs."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from evo_merge.mergeability import Mergeability, PairMeasure
from evo_merge.report.results import RunResults
from evo_merge.report.svg import Figure, group, rect, shorten, text, text_width, title

_GAP = 40.0  # between the two maps
_LARGEST, _SMALLEST_WRITTEN, _SMALLEST_LABELLED = 58.0, 30.0, 11.0  # sides of cells: with a number in it, with a name beside it
_WIDEST_NUMBER = 18.0  # of those below the columns
_DARKEST = 0.6  # opacity, so that the number in a cell can be read in either theme


@dataclass(frozen=True, slots=True)
class _Map:
    """One heat map: what it shows of a pair, how it is written, and its shade from -1 to 1."""

    heading: str
    value: Callable[[PairMeasure], float | None]
    written: Callable[[float], str]
    shade: Callable[[float], float]


_WITH_BASE = (
    _Map("cosine of task vectors", lambda p: p.cosine, lambda v: f"{v:.2f}", lambda v: v),
    _Map("opposite signs, %", lambda p: p.sign_conflict, lambda v: f"{100 * v:.0f}", lambda v: -v),
)
_WITHOUT_BASE = (
    _Map("cosine of the matrices", lambda p: p.weight_cosine, lambda v: f"{v:.2f}", lambda v: v),
    _Map("relative distance", lambda p: p.distance, lambda v: f"{v:.2f}", lambda v: -v),
)


def mergeability_figure(results: RunResults, width: float) -> Figure | None:
    """Two heat maps, side by side or one above the other: a row and a column a source, a cell a pair."""
    found = results.mergeability
    if found is None or not found.pairs:
        return None
    maps = _WITH_BASE if found.base is not None else _WITHOUT_BASE
    is_wide = width > 500
    room = (width - _GAP) / 2 if is_wide else width
    names = [source.name for source in found.sources]
    label = min(max(text_width(f"{len(names)} {name}") for name in names) + 14, room * 0.36)
    cell = min(_LARGEST, (room - label) / len(names))
    height = 30 + cell * len(names) + 24
    body: list[str] = []
    for place, map_ in enumerate(maps):
        left, top = (place * (room + _GAP), 0.0) if is_wide else (0.0, place * height)
        body += _drawn(found, map_, left, top, label, cell)
    listed = "; ".join(f"{pair.first} and {pair.second} {_said(maps, pair)}" for pair in found.pairs[:20])
    return Figure(width, height if is_wide else 2 * height, f"The sources in pairs: {listed}.", tuple(body))


def _drawn(found: Mergeability, map_: _Map, left: float, top: float, label: float, cell: float) -> list[str]:
    """Columns are numbered, as names do not fit above them."""
    names = [source.name for source in found.sources]
    body = [text(left, top + 12, map_.heading, "small strong")]
    step = ceil(_WIDEST_NUMBER / cell)
    for row, first in enumerate(names):
        y = top + 30 + row * cell
        if cell >= _SMALLEST_LABELLED:
            body.append(text(left + label - 8, y + cell / 2 + 4, shorten(f"{row + 1} {first}", label - 8, 11), "small", "end"))
        if row % step == 0:
            middle = left + label + (row + 0.5) * cell
            body.append(text(middle, top + 30 + cell * len(names) + 14, str(row + 1), "small muted", "middle"))
        for column, second in enumerate(names):
            pair = found.pair(first, second)
            if pair is not None:
                body.append(_cell(map_, pair, first, second, left + label + column * cell, y, cell))
    return body


def _cell(map_: _Map, pair: PairMeasure, first: str, second: str, x: float, y: float, side: float) -> str:
    value = map_.value(pair)
    written = "–" if value is None else map_.written(value)
    shade = 0.0 if value is None else max(-1.0, min(1.0, map_.shade(value)))
    inner = max(side - 1.5, 0.5)
    drawn = [
        title(f"{first} and {second}, {map_.heading}: {written}"),
        rect(x, y, inner, inner, class_="panel"),
        rect(x, y, inner, inner, class_="fill", opacity=abs(shade) * _DARKEST),
    ]
    if side >= _SMALLEST_WRITTEN:
        drawn.append(text(x + inner / 2, y + inner / 2 + 4, written, "small", "middle"))
    return group(drawn, class_="source" if shade >= 0 else "best")


def _said(maps: tuple[_Map, _Map], pair: PairMeasure) -> str:
    values = [(map_, map_.value(pair)) for map_ in maps]
    return ", ".join(f"{map_.heading} {'not defined' if v is None else map_.written(v)}" for map_, v in values)
