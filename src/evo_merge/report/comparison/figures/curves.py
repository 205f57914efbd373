"""Best search score so far against evaluations, a line a group: the median over its seeds, and the middle half of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evo_merge.report.comparison.values import FairComparison, Group
from evo_merge.report.figures.layout import Axis
from evo_merge.report.svg import (
    N_MODEL_COLOURS,
    Figure,
    circle,
    element,
    group,
    line,
    named_value,
    number,
    shorten,
    spread,
    text,
    text_width,
    ticks,
    title,
)
from evo_merge.report.wording import ScoreFormat, counted

MOST_BANDS = 4  # in one drawing; more of them could not be told apart
_LABEL_GAP = 16.0
_PANEL_HEIGHT, _PANEL_GAP = 150.0, 56.0


@dataclass(frozen=True, slots=True)
class _Curve:
    """Quartiles from the first evaluation after which every run has a score; empty where one never has."""

    label: str
    short: str
    class_: str
    is_dashed: bool
    begin: int
    low: NDArray[np.float64]
    median: NDArray[np.float64]
    high: NDArray[np.float64]


def curves_figure(comparison: FairComparison, written: ScoreFormat, width: float) -> Figure | None:
    """All medians in one drawing, with the bands where they are few; ``None`` where no run has a best so far."""
    curves = _curves(comparison)
    if not any(len(curve.median) for curve in curves):
        return None
    height = 360.0 if width > 500 else 320.0
    ends = {curve.short: written.score(float(curve.median[-1])) for curve in curves if len(curve.median)}
    wished = max(text_width(f"{name} {end}") for name, end in ends.items()) + 46
    x = Axis(0, comparison.evaluations, start=46, end=width - min(wished, width * (0.36 if width > 500 else 0.46)))
    has_bands = len(curves) <= MOST_BANDS
    y = Axis(*_range(curves, comparison, written, has_bands=has_bands), start=height - 44, end=12)
    body = [*_axes(x, y, written), text(x.start, y.start + 34, "evaluations; best search score so far", "small muted")]
    body += _target_line(comparison, x, y, written)
    if has_bands:
        body += [_band(curve, x, y) for curve in curves]
    body += [_median_line(curve, x, y, written) for curve in reversed(curves)]  # the best on top
    body += _end_labels([curve for curve in curves if len(curve.median)], x, y, written, width)
    told = "; ".join(f"{name} {end}" for name, end in ends.items())
    description = f"Median best search score after {comparison.evaluations} evaluations: {told}."
    return Figure(width, height, description, tuple(body))


def bands_figure(comparison: FairComparison, written: ScoreFormat, width: float) -> Figure | None:
    """A panel a group with its band, before the medians of the others; ``None`` where one drawing holds all bands."""
    curves = _curves(comparison)
    if len(curves) <= MOST_BANDS or not any(len(curve.median) for curve in curves):
        return None
    n_columns = 3 if width > 500 else 1
    panel = (width - 46) / n_columns
    bounds = _range(curves, comparison, written, has_bands=True)
    body, n_rows = [], math.ceil(len(curves) / n_columns)
    for place, curve in enumerate(curves):
        row, column = divmod(place, n_columns)
        top = row * (_PANEL_HEIGHT + _PANEL_GAP)
        x = Axis(0, comparison.evaluations, start=46 + column * panel, end=46 + (column + 1) * panel - 20)
        y = Axis(*bounds, start=top + 20 + _PANEL_HEIGHT, end=top + 20)
        body += _axes(x, y, written, has_names=column == 0)
        others = [other for other in curves if other is not curve and len(other.median)]
        body += [line(_steps(other.median, other.begin, x, y), "thread") for other in others]
        body += [_band(curve, x, y), _median_line(curve, x, y, written)]
        body.append(group([text(x.start, top + 12, shorten(curve.short, panel - 24), "strong")], class_=curve.class_))
    described = f"{counted(len(curves), 'panel')}, one a group: median and middle half of its best search scores so far."
    return Figure(width, n_rows * (_PANEL_HEIGHT + _PANEL_GAP), described, tuple(body))


def colour(comparison: FairComparison, of: Group) -> tuple[str, bool]:
    """The class of a group's colour, and whether its lines are dashed, as where there are more groups than colours."""
    place = comparison.groups.index(of)
    return f"model{place % N_MODEL_COLOURS}", place // N_MODEL_COLOURS % 2 == 1


def _curves(comparison: FairComparison) -> list[_Curve]:
    return [_curve(comparison, of) for of in comparison.groups] if comparison.has_curves else []


def _curve(comparison: FairComparison, of: Group) -> _Curve:
    values = of.curves(comparison.evaluations)  # (n_runs, n)
    known = ~np.isnan(values).any(axis=0)
    begin = int(known.argmax()) if known.any() else comparison.evaluations
    low, median, high = np.quantile(values[:, begin:], [0.25, 0.5, 0.75], axis=0)
    class_, is_dashed = colour(comparison, of)
    return _Curve(of.label, of.short, class_, is_dashed, begin, low, median, high)


def _range(
    curves: Sequence[_Curve], comparison: FairComparison, written: ScoreFormat, *, has_bands: bool
) -> tuple[float, float]:
    """To hold what is drawn: no axis from 0, which would press together what is to be told apart."""
    drawn = [part for c in curves for part in ((c.low, c.high) if has_bands else (c.median,))]
    values = np.concatenate([part for part in drawn if len(part)])
    low, high = float(values.min()), float(values.max())
    if comparison.target is not None:
        low, high = min(low, comparison.target[0]), max(high, comparison.target[0])
    pad = 0.06 * (high - low) or 0.05
    if not written.is_fraction:
        return low - pad, high + pad
    return max(0.0, low - pad), min(1.0, high + pad) if high < 1 else 1.0


def _axes(x: Axis, y: Axis, written: ScoreFormat, *, has_names: bool = True) -> list[str]:
    drawn = []
    for value in ticks(y.low, y.high, max(3, round((y.start - y.end) / 60))):
        drawn.append(line([(x.start, y(value)), (x.end, y(value))], "grid"))
        if has_names:
            drawn.append(text(x.start - 7, y(value) + 4, written.tick(value), "small muted", "end"))
    drawn.append(line([(x.start, y.start), (x.end, y.start)], "axis"))
    for value in ticks(x.low, x.high, max(2, round((x.end - x.start) / 90))):
        drawn.append(line([(x(value), y.start), (x(value), y.start + 4)], "axis"))
        drawn.append(text(x(value), y.start + 16, f"{value:g}", "small muted", "middle"))
    return drawn


def _target_line(comparison: FairComparison, x: Axis, y: Axis, written: ScoreFormat) -> list[str]:
    if comparison.target is None:
        return []
    at = y(comparison.target[0])
    said = f"target {written.score(comparison.target[0])}"
    return [
        group([title(said), line([(x.start, at), (x.end, at)], "line dashed")], class_="candidate"),
        text(x.start + 5, at - 5, said, "small muted halo"),
    ]


def _steps(values: NDArray[np.float64], begin: int, x: Axis, y: Axis) -> list[tuple[float, float]]:
    """A score holds until the evaluation that changes it; value 0 is that after evaluation ``begin + 1``."""
    points = [(x(begin + 1), y(float(values[0])))]
    for place in np.flatnonzero(np.diff(values)) + 1:
        at = x(begin + 1 + int(place))
        points += [(at, points[-1][1]), (at, y(float(values[place])))]
    return [*points, (x(begin + len(values)), points[-1][1])]


def _band(curve: _Curve, x: Axis, y: Axis) -> str:
    if not len(curve.median):
        return ""
    there = _steps(curve.high, curve.begin, x, y)
    back = reversed(_steps(curve.low, curve.begin, x, y))
    path = "M" + "L".join(f"{number(px)} {number(py)}" for px, py in (*there, *back)) + "Z"
    return group([element("path", class_="tinted bar band", d=path)], class_=curve.class_)


def _median_line(curve: _Curve, x: Axis, y: Axis, written: ScoreFormat) -> str:
    if not len(curve.median):
        return ""
    said = f"{curve.label}: median {written.score(float(curve.median[-1]))} after {curve.begin + len(curve.median)} evaluations"
    drawn = line(
        _steps(curve.median, curve.begin, x, y), f"line thick median{' dashed' if curve.is_dashed else ''}", title(said)
    )
    return group([drawn], class_=curve.class_)


def _end_labels(curves: Sequence[_Curve], x: Axis, y: Axis, written: ScoreFormat, width: float) -> list[str]:
    ordered = sorted(curves, key=lambda curve: -float(curve.median[-1]))
    places = spread([y(float(curve.median[-1])) for curve in ordered], _LABEL_GAP, y.end, y.start)
    drawn = []
    for curve, place in zip(ordered, places, strict=True):
        at, value = y(float(curve.median[-1])), written.score(float(curve.median[-1]))
        room = width - x.end - 32 - text_width(value) - 8
        children = [
            title(f"{curve.label}: {value}"),
            line([(x.end, at), (x.end + 6, at), (x.end + 14, place)], f"leader{' dashed' if curve.is_dashed else ''}"),
            circle(x.end + 19, place, 3.5, "open" if curve.is_dashed else "fill"),
            named_value(x.end + 28, place + 4, shorten(curve.short, room), value),
        ]
        drawn.append(group(children, class_=curve.class_))
    return drawn
