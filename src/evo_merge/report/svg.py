"""The few SVG primitives that the figures are made of, and their colours.

A figure is drawn once and used twice: inside the HTML report, where its colours are CSS variables and follow the
reader's light or dark theme, and as a file of its own on a white background, where they are written out.
"""

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'Noto Sans', 'Noto Sans CJK JP', sans-serif"

# Okabe and Ito's colours, told apart by colour-blind readers; lighter in the dark.
LIGHT = {
    "page": "#ffffff",
    "panel": "#f6f7f8",
    "ink": "#1d2126",
    "muted": "#5d6670",
    "hairline": "#dfe3e7",
    "source": "#0067a8",
    "unoptimised": "#00805c",
    "baseline": "#7d5ba6",
    "best": "#c44e00",
    "stage": "#8c6d00",
    "ablation": "#57616c",
    "candidate": "#7f8a96",
    "model0": "#0067a8",
    "model1": "#c44e00",
    "model2": "#00805c",
    "model3": "#a3478f",
    "model4": "#8c6d00",
    "model5": "#57616c",
}
DARK = {
    "page": "#14171a",
    "panel": "#1c2024",
    "ink": "#e8eaed",
    "muted": "#a0a9b3",
    "hairline": "#343a41",
    "source": "#62b4ee",
    "unoptimised": "#3cc49c",
    "baseline": "#b79be0",
    "best": "#ff8f4a",
    "stage": "#e3c14f",
    "ablation": "#b3bdc7",
    "candidate": "#7d8894",
    "model0": "#62b4ee",
    "model1": "#ff8f4a",
    "model2": "#3cc49c",
    "model3": "#e39ad2",
    "model4": "#e3c14f",
    "model5": "#b3bdc7",
}
N_MODEL_COLOURS = 6

STYLE = """
.figure text { font-family: FONT; font-size: 12px; fill: var(--ink); }
.figure .small { font-size: 11px; }
.figure .muted { fill: var(--muted); }
.figure .strong { font-weight: 600; }
.figure .axis { stroke: var(--muted); stroke-width: 1; fill: none; }
.figure .grid { stroke: var(--hairline); stroke-width: 1; fill: none; }
.figure .panel { fill: var(--panel); }
.figure .halo { paint-order: stroke; stroke: var(--page); stroke-width: 3px; stroke-linejoin: round; }
.figure .source { color: var(--source); }
.figure .unoptimised { color: var(--unoptimised); }
.figure .baseline { color: var(--baseline); }
.figure .best { color: var(--best); }
.figure .stage { color: var(--stage); }
.figure .ablation { color: var(--ablation); }
.figure .candidate { color: var(--candidate); }
.figure .model0 { color: var(--model0); } .figure .model1 { color: var(--model1); } .figure .model2 { color: var(--model2); }
.figure .model3 { color: var(--model3); } .figure .model4 { color: var(--model4); } .figure .model5 { color: var(--model5); }
.figure .fill { fill: currentColor; }
.figure .line { stroke: currentColor; fill: none; stroke-width: 1.5; }
.figure .thick { stroke-width: 2.5; stroke-linejoin: round; }
.figure .leader { stroke: currentColor; fill: none; stroke-width: .75; opacity: .6; }
.figure .dashed { stroke-dasharray: 5 3; }
.figure .dots { stroke: currentColor; fill: none; stroke-width: 4px; stroke-linecap: round; opacity: .6; }
.figure .points { stroke: currentColor; fill: none; stroke-width: 5px; stroke-linecap: round; }
.figure .large { stroke-width: 5.5px; opacity: .75; }
.figure .ring { fill: var(--page); stroke: currentColor; stroke-width: 2.5; }
.figure .open { fill: var(--page); stroke: currentColor; stroke-width: 1.5; }
.figure .thread { stroke: var(--muted); fill: none; stroke-width: 1; opacity: .5; }
.figure .border { stroke: var(--muted); stroke-width: 1; stroke-dasharray: 2 3; fill: none; }
.figure .tinted { fill: currentColor; }
.figure .bar { opacity: .2; }
.figure .shade1 { opacity: .2; } .figure .shade2 { opacity: .4; } .figure .shade3 { opacity: .6; }
.figure .shade4 { opacity: .8; }
.figure .hover { fill: transparent; }
""".replace("FONT", FONT).strip()


_MARGIN = 16.0  # around a figure in a file of its own


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing of ``width`` by ``height`` pixels; ``description`` is what a reader who cannot see it is told."""

    width: float
    height: float
    description: str
    body: tuple[str, ...]

    def inline(self) -> str:
        """For an HTML page that has ``STYLE`` and the colours as CSS variables."""
        return self._svg("".join(self.body), "")

    def standalone(self) -> str:
        """A whole ``.svg`` file, in the light colours on white; viewers without CSS variables show it too."""
        style = re.sub(r"var\(--(\w+)\)", lambda match: LIGHT[match.group(1)], STYLE)
        width, height = self.width + 2 * _MARGIN, self.height + 2 * _MARGIN
        background = rect(-_MARGIN, -_MARGIN, width, height, fill=LIGHT["page"])
        body = f"<style>{escape(style)}</style>{background}{''.join(self.body)}"
        size = f' width="{number(width)}" height="{number(height)}"'
        return f'<?xml version="1.0" encoding="UTF-8"?>\n{self._svg(body, size, _MARGIN)}\n'

    def _svg(self, body: str, size: str, margin: float = 0.0) -> str:
        corner, width, height = number(-margin), number(self.width + 2 * margin), number(self.height + 2 * margin)
        view = f"{corner} {corner} {width} {height}"
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="figure" viewBox="{view}"{size} role="img" '
            f"aria-label={quoteattr(clean(self.description))}>{body}</svg>"
        )


def element(tag: str, content: str = "", **attributes: str | float) -> str:
    """One element; ``_`` in an attribute's name is written ``-``, and a last ``_`` is left out (``class_``)."""
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}={quoteattr(value if isinstance(value, str) else number(value))}"
        for key, value in attributes.items()
    )
    return f"<{tag}{written}>{content}</{tag}>" if content else f"<{tag}{written}/>"


def group(children: Iterable[str], **attributes: str | float) -> str:
    """Elements that share a class or a tooltip."""
    return element("g", "".join(children), **attributes)


def title(text: str) -> str:
    """The tooltip of the element whose content begins with it."""
    return f"<title>{escape(clean(text))}</title>"


def text(x: float, y: float, content: str, class_: str = "", anchor: str = "start", **attributes: str | float) -> str:
    """One line of text with its baseline at ``y``."""
    optional: dict[str, str | float] = {"class": class_} if class_ else {}
    if anchor != "start":
        optional["text-anchor"] = anchor
    return element("text", escape(clean(content)), x=x, y=y, **optional, **attributes)


def named_value(x: float, y: float, name: str, value: str) -> str:
    """A name, and a value in bold right behind it, however wide the name comes out."""
    return element("text", f'{escape(clean(name))}<tspan class="strong" dx="6">{escape(clean(value))}</tspan>', x=x, y=y)


def rect(x: float, y: float, width: float, height: float, content: str = "", **attributes: str | float) -> str:
    """A rectangle, perhaps with a tooltip."""
    return element("rect", content, x=x, y=y, width=width, height=height, **attributes)


def line(points: Sequence[tuple[float, float]], class_: str, content: str = "") -> str:
    """A polyline, perhaps with a tooltip."""
    return element("path", content, class_=class_, d="M" + "L".join(f"{number(x)} {number(y)}" for x, y in points))


def dots(points: Iterable[tuple[float, float]], class_: str) -> str:
    """Many round dots in one element: strokes of no length with round ends."""
    return element("path", class_=class_, d="".join(f"M{number(x)} {number(y)}h0" for x, y in points))


def circle(x: float, y: float, radius: float, class_: str, content: str = "", **attributes: str | float) -> str:
    """A dot, perhaps with a tooltip."""
    return element("circle", content, class_=class_, cx=x, cy=y, r=radius, **attributes)


def cross(x: float, y: float, radius: float, class_: str, content: str = "") -> str:
    """A small x, perhaps with a tooltip."""
    left, right, top, bottom = (number(value) for value in (x - radius, x + radius, y - radius, y + radius))
    return element("path", content, class_=class_, d=f"M{left} {top}L{right} {bottom}M{left} {bottom}L{right} {top}")


def number(value: float) -> str:
    """A coordinate, to a hundredth of a pixel, without trailing zeros."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if value % 1 else str(int(value))


def clean(text_: str) -> str:
    """Without the control characters that XML forbids."""
    return "".join(c for c in text_ if c in "\t\n\r" or (ord(c) >= 32 and not 0xD800 <= ord(c) <= 0xDFFF and ord(c) < 0xFFFE))


def text_width(content: str, size: float = 12.0) -> float:
    """About how many pixels a line of text takes in a usual sans-serif; Chinese and Japanese are as wide as high."""
    return size * sum(_character_width(c) for c in content)


def _character_width(character: str) -> float:
    if unicodedata.east_asian_width(character) in "WF":
        return 1.0
    if character in " .,:;'|!/()[]-ijltfrI":
        return 0.37
    if character in "mwMW%@—…":
        return 0.95
    return 0.7 if character.isupper() else 0.62


def shorten(content: str, width: float, size: float = 12.0) -> str:
    """The text, cut in its middle where it takes more than ``width`` pixels."""
    if text_width(content, size) <= width:
        return content
    kept = content
    while len(kept) > 2 and text_width(kept, size) + size > width:
        kept = kept[:-1]
    head = -(-len(kept) * 2 // 3)
    tail = len(kept) - head
    return content[:head] + "…" + (content[-tail:] if tail else "")


def spread(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move sorted label positions apart by at least ``gap``, near where they were and inside ``[low, high]``."""
    # Labels that touch form a block around the mean of where its members wish to be; touching blocks become one.
    blocks: list[list[float]] = []
    for position in positions:
        blocks.append([position])
        while len(blocks) > 1 and _top(blocks[-1], gap, low, high) < _top(blocks[-2], gap, low, high) + gap * len(blocks[-2]):
            last = blocks.pop()
            blocks[-1].extend(last)
    return [_top(block, gap, low, high) + gap * i for block in blocks for i in range(len(block))]


def _top(block: Sequence[float], gap: float, low: float, high: float) -> float:
    extent = gap * (len(block) - 1)
    return max(low, min(sum(block) / len(block) - extent / 2, high - extent))


def ticks(low: float, high: float, count: int) -> list[float]:
    """About ``count`` round numbers from ``low`` to ``high``."""
    span = high - low
    if span <= 0:
        return [low]
    magnitude = 10.0 ** math.floor(math.log10(span / count))
    step = next(magnitude * factor for factor in (1, 2, 2.5, 5, 10) if magnitude * factor * count >= span * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]
