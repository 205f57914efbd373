"""The test scores of all runs, a row a group: a dot a run, and the mean over the seeds with its interval."""

from evo_merge.report.comparison.figures.curves import colour
from evo_merge.report.comparison.values import FairComparison
from evo_merge.report.figures.layout import Axis, legend, score_ticks
from evo_merge.report.svg import Figure, circle, group, line, shorten, text, text_width, title
from evo_merge.report.wording import ScoreFormat

_ROW = 40.0


def finals_figure(comparison: FairComparison, written: ScoreFormat, width: float) -> Figure | None:
    """The best group first; ``None`` before every compared run has its test score."""
    standings = [(s, s.mean) for s in comparison.standings if s.mean is not None]
    if not standings:
        return None
    is_wide = width > 500
    label = min(max(text_width(s.group.short) for s, _ in standings) + 18, width * 0.36)
    sources = [run.best_source for run in comparison.compared if run.best_source is not None]
    has_interval = any(standing.interval is not None for standing, _ in standings)
    said = f"mean over the seeds{', 95 % interval' if has_interval else ''}"
    entries = [("candidate", "dot", "one run"), ("candidate", "line", said)]
    entries += [("source", "line", "best source")] if sources else []
    key, taken = legend(entries, 8, 2, width - 16)
    top = taken + 10
    height = top + _ROW * len(standings) + 28
    low, high = _extent(comparison)
    pad = 0.06 * (high - low) or 0.05
    bounds = (max(0.0, low - pad), min(1.0, high + pad)) if written.is_fraction else (low - pad, high + pad)
    x = Axis(*bounds, start=label, end=width - (178.0 if is_wide else 66.0))
    body = list(key)
    for value in score_ticks(x):
        body.append(line([(x(value), top), (x(value), height - 24)], "grid"))
        body.append(text(x(value), height - 8, written.tick(value), "small muted", "middle"))
    if sources:
        best = max(sources)
        told = title(f"best source: {written.score(best)}")
        body.append(group([line([(x(best), top), (x(best), height - 24)], "line dashed", told)], class_="source"))
    for row, (standing, mean) in enumerate(standings):
        class_, _ = colour(comparison, standing.group)
        y = top + _ROW * (row + 0.5)
        drawn = [
            circle(
                x(run.test or 0.0), y - 6, 4, "tinted shade3 run", title(f"seed {run.seed}: {written.score(run.test or 0.0)}")
            )
            for run in standing.group.runs
        ]
        said, bounds_said = written.score(mean), ""
        if standing.interval is not None:
            bounds_said = f"({written.interval(standing.interval.low, standing.interval.high)})"
            drawn.append(line([(x(standing.interval.low), y + 8), (x(standing.interval.high), y + 8)], "line thick"))
        drawn.append(circle(x(mean), y + 8, 3.5, "ring", title(f"{standing.group.label}: mean {said} {bounds_said}")))
        drawn.append(text(label - 12, y + 4, shorten(standing.group.short, label - 16), "", "end"))
        drawn.append(text(x.end + 10, y + 4, said, "strong"))
        if is_wide:
            drawn.append(text(width - 4, y + 4, bounds_said, "small muted", "end"))
        body.append(group(drawn, class_=class_))
    listed = "; ".join(f"{standing.group.label} {written.score(mean)}" for standing, mean in standings)
    return Figure(width, height, f"Mean test scores over the seeds: {listed}.", tuple(body))


def _extent(comparison: FairComparison) -> tuple[float, float]:
    values = [score for run in comparison.compared for score in (run.test, run.best_source) if score is not None]
    for standing in comparison.standings:
        if standing.interval is not None:
            values += [standing.interval.low, standing.interval.high]
    return min(values), max(values)
