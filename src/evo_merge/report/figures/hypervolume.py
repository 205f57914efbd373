"""The hypervolume of everything evaluated so far, generation by generation."""

from evo_merge.report.figures.layout import Axis, legend, score_ticks
from evo_merge.report.results import RunResults
from evo_merge.report.svg import Figure, circle, group, line, text, ticks, title

_MOST_MARKS = 120  # generations whose points have room


def hypervolume_figure(results: RunResults, width: float) -> Figure | None:
    """A line over the generations, and a dashed one of what was there before; ``None`` where there is no front to measure."""
    found = results.hypervolumes
    if found is None:
        return None
    volumes = found.by_generation
    before = [("source", "line", "sources and un-tuned merges together")] if found.before > 0 else []
    key, top = legend([("best", "line", "all candidates so far"), *before], 8, 2, width - 16)
    height = top + (230 if width > 500 else 210)
    highest = max(*volumes, found.before)
    y = Axis(0.0, highest * 1.08 or 1.0, start=height - 44, end=top + 12)
    x = Axis(0, max(len(volumes) - 1, 1), start=62, end=width - 22)
    body = list(key)
    for value in score_ticks(y):
        body.append(line([(x.start, y(value)), (x.end, y(value))], "grid"))
        body.append(text(x.start - 7, y(value) + 4, f"{value:g}", "small muted", "end"))
    rounds = [value for value in ticks(0, len(volumes) - 1, 10 if width > 500 else 5) if value == round(value)]
    body += [text(x(value), y.start + 16, f"{value:g}", "small muted", "middle") for value in rounds]
    body.append(line([(x.start, y.start), (x.end, y.start)], "axis"))
    body.append(text(x.start, y.start + 34, "rounds of ask and tell, from 0; hypervolume", "small muted"))
    if found.before > 0:
        told = title(f"sources and un-tuned merges together: {found.before:.4g}")
        body.append(group([line([(x.start, y(found.before)), (x.end, y(found.before))], "line dashed", told)], class_="source"))
    points = [(x(place), y(volume)) for place, volume in enumerate(volumes)]
    marks = [
        circle(*at, 3.5 if len(points) <= _MOST_MARKS else 0.5, "fill", title(f"after round {place}: {volume:.4g}"))
        for place, (at, volume) in enumerate(zip(points, volumes, strict=True))
    ]
    body.append(group([*([line(points, "line thick")] if len(points) > 1 else []), *marks], class_="best"))
    description = (
        f"Hypervolume of the front so far: {volumes[0]:.4g} after the first of {len(volumes)} rounds, {volumes[-1]:.4g} after "
        f"the last; sources and un-tuned merges together {found.before:.4g}."
    )
    return Figure(width, height, description, tuple(body))
