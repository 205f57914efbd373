"""The path of a data-flow merge: the paper's Figure 4, which layer of which model comes when, and how its input is scaled."""

import math
from collections.abc import Sequence

from evo_merge.recipe import DataFlowRecipe, Step
from evo_merge.report.figures.layout import Axis
from evo_merge.report.results import RunResults
from evo_merge.report.svg import (
    N_MODEL_COLOURS,
    Figure,
    circle,
    element,
    group,
    line,
    number,
    rect,
    shorten,
    text,
    text_width,
    ticks,
    title,
)
from evo_merge.report.wording import counted, path_in_words, scale_text, scaled_thing

_LEFT, _RIGHT = 34.0, 8.0
_CLOSEST = 9.0  # pixels between hops; a longer path goes on in another row
_WIDEST = 60.0
_RADIUS = 3.6, 6.5  # of scale 1, by how much room a hop has; the area is the size of the scale
_SMALLEST, _LARGEST = 0.1, 4.0  # scales beyond are drawn like these
_SHAPES = ("circle", "square", "diamond", "triangle")
_AXIS = 26.0  # below a row


def path_figure(results: RunResults, width: float) -> Figure | None:
    """A mark a hop: from left to right the path, upwards the layers; colour and shape are the model, size is the scale.

    A mark is open where the scale is negative. A path that is too long for the width goes on in further rows.
    """
    recipe = results.path
    if recipe is None:
        return None
    names = [source.name for source in recipe.models]
    highest = max(_highest(results), *(step.layer for step in recipe.path))
    n_hops = len(recipe.path)
    n_rows = math.ceil(n_hops * _CLOSEST / (width - _LEFT - _RIGHT))
    per_row = math.ceil(n_hops / n_rows)
    pitch = min(_WIDEST, (width - _LEFT - _RIGHT) / per_row)
    radius = min(max(0.2 * pitch, _RADIUS[0]), _RADIUS[1])
    body, top = _legend(recipe, names, width, radius)
    extent = min(34.0, max(7.0, 200 / (highest + 1))) * highest
    thing = scaled_thing(recipe)
    for row in range(n_rows):
        begin = row * per_row
        steps = recipe.path[begin : begin + per_row]
        x = Axis(begin - 0.5, begin + per_row - 0.5, _LEFT, _LEFT + pitch * per_row)
        y = Axis(0, max(highest, 1), top + 12 + extent, top + 12)
        body += _grid(steps, begin, x, y, highest, pitch)
        places = [(x(begin + i), y(step.layer)) for i, step in enumerate(steps)]
        body.append(line(places, "thread"))
        for i, (step, place) in enumerate(zip(steps, places, strict=True)):
            body.append(_hop(begin + i, step, place, names.index(step.model), radius, thing))
        top = y.start + 12 + _AXIS
    body.append(text(_LEFT, top + 8, "across: the hop; upwards: the layer of its model", "small muted"))
    said = path_in_words(recipe)
    return Figure(width, top + 16, f"Path of {counted(n_hops, 'hop')} from left to right: {said}.", tuple(body))


def model_class(index: int) -> str:
    """The class that colours a model of a path."""
    return f"model{index % N_MODEL_COLOURS}"


def _highest(results: RunResults) -> int:
    """The highest layer that any path of the run has, so that what was left out shows too."""
    recipes = [m.recipe for m in results.models] + [c.recipe for c in results.of_stage[:200]]
    return max((step.layer for r in recipes if isinstance(r, DataFlowRecipe) for step in r.path), default=0)


def _legend(recipe: DataFlowRecipe, names: Sequence[str], width: float, radius: float) -> tuple[list[str], float]:
    """Models, then what sizes mean where there are scales; returns the elements and the height taken."""
    used = [step.scale for step in recipe.path if step.scale != 1]
    entries = [(model_class(i), i, 1.0, shorten(name, width * 0.5, 11)) for i, name in enumerate(names)]
    if used:
        sizes = sorted({_round(min(map(abs, used), default=1)), 1.0, _round(max(map(abs, used), default=1))})
        entries += [("ablation", 0, size, f"scale {scale_text(size)}") for size in sizes]
    if any(scale < 0 for scale in used):
        entries.append(("ablation", 0, -1.0, "open: negative scale"))
    drawn, left, top = [], 8.0, 2.0
    for class_, shape, scale, label in entries:
        taken = text_width(label, 11) + 36
        if left > 8 and left + taken > width:
            left, top = 8.0, top + 22
        mark = _mark(left + 8, top + 7, shape, scale, radius)
        drawn.append(group([mark, text(left + 21, top + 11, label, "small muted")], class_=class_))
        left += taken
    return drawn, top + 26


def _round(scale: float) -> float:
    """A size that the legend shows: to one digit, within what marks can show."""
    return float(f"{min(max(scale, _SMALLEST), _LARGEST):.1g}")


def _grid(steps: Sequence[Step], begin: int, x: Axis, y: Axis, highest: int, pitch: float) -> list[str]:
    right = x(begin + len(steps) - 0.5)
    drawn = [rect(x.start, y.end - 10, right - x.start, y.start - y.end + 20, class_="panel")]
    for value in ticks(0, highest, max(1, min(highest, round((y.start - y.end) / 26)))) if highest else [0.0]:
        if value == int(value):
            drawn.append(line([(x.start, y(value)), (right, y(value))], "grid"))
            drawn.append(text(x.start - 7, y(value) + 4, str(int(value)), "small muted", "end"))
    every = next(n for n in (1, 2, 5, 10, 20, 50, 100, 1000) if n * pitch >= 22)
    drawn += [
        text(x(hop), y.start + 24, str(hop), "small muted", "middle")
        for hop in range(begin, begin + len(steps))
        if hop % every == 0
    ]
    return drawn


def _hop(place: int, step: Step, at: tuple[float, float], model: int, radius: float, thing: str) -> str:
    scale = "" if step.scale == 1 else f", {thing} times {scale_text(step.scale)}"
    tip = title(f"hop {place}: layer {step.layer} of {step.model}{scale}")
    # Small marks are hard to point at.
    reach = circle(*at, 7, "hover")
    return group([tip, _mark(*at, model, step.scale, radius), reach], class_=model_class(model))


def _mark(x: float, y: float, model: int, scale: float, radius: float) -> str:
    """``radius`` is that of scale 1."""
    radius *= math.sqrt(min(max(abs(scale), _SMALLEST), _LARGEST))
    class_ = "open" if scale < 0 else "fill"
    # Models beyond the colours begin with another shape, so that no two are alike.
    shape = _SHAPES[(model + model // N_MODEL_COLOURS) % len(_SHAPES)]
    if shape == "circle":
        return circle(x, y, radius, class_)
    half = radius * math.sqrt(math.pi)  # marks of one scale have one area, whatever their shape
    if shape == "square":
        return rect(x - half / 2, y - half / 2, half, half, class_=class_)
    if shape == "diamond":
        r = half / math.sqrt(2)
        return _polygon([(x, y - r), (x + r, y), (x, y + r), (x - r, y)], class_)
    side = half * 2 / 3**0.25
    height = side * math.sqrt(3) / 2
    corners = [(x, y - height * 2 / 3), (x + side / 2, y + height / 3), (x - side / 2, y + height / 3)]
    return _polygon(corners, class_)


def _polygon(corners: Sequence[tuple[float, float]], class_: str) -> str:
    return element("path", class_=class_, d="M" + "L".join(f"{number(x)} {number(y)}" for x, y in corners) + "Z")
