"""What several figures share: the line from values to pixels, a row of legend entries, drawings below each other."""

from collections.abc import Sequence
from dataclasses import dataclass

from evo_merge.report.svg import Figure, circle, cross, group, line, number, shorten, text, text_width, ticks


@dataclass(frozen=True, slots=True)
class Axis:
    """Values from ``low`` to ``high`` on pixels from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The pixel of a value; values outside are drawn at the edge."""
        inside = min(max(value, self.low), self.high)
        return self.start + (inside - self.low) / (self.high - self.low) * (self.end - self.start)


def score_range(values: Sequence[float], *, is_fraction: bool) -> tuple[float, float]:
    """Bounds of a score axis: from 0 up to a round number for fractions, otherwise to hold the values."""
    if is_fraction:
        largest = max(values, default=1.0)
        return 0.0, next((bound for bound in (0.1, 0.2, 0.5, 0.8) if largest <= 0.95 * bound), 1.0)
    low, high = min(values, default=0.0), max(values, default=1.0)
    pad = 0.08 * (high - low) or max(abs(high), 1.0) * 0.1
    return 0.0 if low >= 0 else low - pad, high + pad


def score_ticks(axis: Axis) -> list[float]:
    """Round values, about one every 60 pixels."""
    return ticks(axis.low, axis.high, max(2, round(abs(axis.end - axis.start) / 60)))


def legend(entries: Sequence[tuple[str, str, str]], x: float, y: float, width: float) -> tuple[list[str], float]:
    """Entries of (class, mark, text) from left to right, in as many lines as needed; marks are a dot, open, line or cross.

    Returns:
        The elements, and the height taken.
    """
    drawn, left, top = [], x, y
    for class_, mark, label in entries:
        extent = text_width(label, 11) + 34
        if left > x and left + extent > x + width:
            left, top = x, top + 18
        drawn.append(group([_mark(mark, left + 6, top + 5), text(left + 17, top + 9, label, "small muted")], class_=class_))
        left += extent
    return drawn, top - y + 18 if entries else 0.0


def stacked(figures: Sequence[tuple[str, Figure]]) -> Figure | None:
    """Drawings of one width below each other, each under its heading; a single one is left as it is."""
    if len(figures) < 2:
        return figures[0][1] if figures else None
    body, top = [], 0.0
    width = figures[0][1].width
    for heading, figure in figures:
        moved = [text(8, 15, shorten(heading, width - 16), "strong"), group(figure.body, transform="translate(0 26)")]
        body.append(group(moved, transform=f"translate(0 {number(top)})"))
        top += figure.height + 26 + 18
    described = " ".join(f"{heading}: {figure.description}" for heading, figure in figures)
    return Figure(width, top - 18, described, tuple(body))


def _mark(kind: str, x: float, y: float) -> str:
    if kind == "line":
        return line([(x - 6, y), (x + 6, y)], "line thick")
    if kind == "open":
        return circle(x, y, 4, "open")
    return cross(x, y, 3.5, "line") if kind == "cross" else circle(x, y, 4, "fill")
