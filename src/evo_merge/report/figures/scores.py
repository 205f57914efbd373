"""The final table as a picture: every model's test score with its interval."""

from evo_merge.objectives import has_chance
from evo_merge.report.figures.layout import Axis, legend, score_range, score_ticks, stacked
from evo_merge.report.results import RunResults, scores
from evo_merge.report.svg import Figure, circle, group, line, rect, shorten, text, text_width, title
from evo_merge.report.views import views
from evo_merge.report.wording import ROLES, display_name, score_format
from evo_merge.statistics.intervals import interval

_ROW = 27.0


def scores_figure(results: RunResults, width: float) -> Figure | None:
    """A row a model, the best score first: its score on the test split, and the 95 % interval; a table an objective."""
    drawn = [(view.objective, _scores(view, width)) for view in views(results)]
    return stacked([(objective, figure) for objective, figure in drawn if figure is not None])


def _scores(results: RunResults, width: float) -> Figure | None:
    is_drawn = has_chance(results.objective)
    columns = [(model, scores(model.test, results.objective)) for model in results.models]
    tested = [(model, float(c.mean()), interval(c) if is_drawn else None) for model, c in columns if c is not None]
    if not tested:
        return None
    tested.sort(key=lambda row: -row[1])
    written = score_format(results)
    is_wide = width > 500
    names = [display_name(model) for model, _, _ in tested]
    label = min(max(text_width(name) for name in names) + 14, width * 0.36)
    margin = 178.0 if is_wide else 62.0
    roles = [role for role in ROLES if any(model.role == role for model, _, _ in tested)]
    key, taken = legend([(role, "dot", ROLES[role]) for role in roles], 8, 2, width - 16)
    top = taken + 8
    height = top + _ROW * len(tested) + 26
    extremes = [value for _, score, each in tested for value in ((score,) if each is None else (each.low, each.high))]
    x = Axis(*score_range(extremes, is_fraction=written.is_fraction), start=label, end=width - margin)
    body = list(key)
    for value in score_ticks(x):
        body.append(line([(x(value), top), (x(value), height - 24)], "grid"))
        body.append(text(x(value), height - 8, written.tick(value), "small muted", "middle"))
    for row, ((model, score, bounds), name) in enumerate(zip(tested, names, strict=True)):
        y = top + _ROW * (row + 0.5)
        bold = "strong" if model.role == "best" else ""
        ends = "" if bounds is None else written.interval(bounds.low, bounds.high)
        said = f"{written.score(score)}{f', 95 % interval {ends}' if ends else ''}"
        drawn = [
            title(f"{name} ({ROLES.get(model.role, model.role)}): {said}"),
            rect(x.start, y - 7, max(x(score) - x.start, 0), 14, class_="fill bar"),
            *(() if bounds is None else [line([(x(bounds.low), y), (x(bounds.high), y)], "line thick")]),
            circle(x(score), y, 4.5, "fill"),
            text(label - 9, y + 4, shorten(name, label - 12), bold, "end"),
            text(x.end + 10, y + 4, written.score(score), bold),
        ]
        if is_wide and ends:
            drawn.append(text(width - 4, y + 4, f"({ends})", "small muted", "end"))
        body.append(group(drawn, class_=model.role))
    listed = "; ".join(f"{name} {written.score(score)}" for name, (_, score, _) in zip(names, tested, strict=True))
    return Figure(width, height, f"Test scores{' with 95 % intervals' if is_drawn else ''}: {listed}.", tuple(body))
