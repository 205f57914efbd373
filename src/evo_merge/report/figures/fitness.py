"""Every candidate's search score in the order of the search, against what was there before it."""

from dataclasses import dataclass

from evo_merge.report.figures.layout import Axis, legend, score_range, score_ticks
from evo_merge.report.results import RunResults, SearchedCandidate, mean_score
from evo_merge.report.svg import (
    Figure,
    circle,
    cross,
    dots,
    group,
    line,
    named_value,
    rect,
    shorten,
    spread,
    text,
    text_width,
    title,
)
from evo_merge.report.wording import ScoreFormat, counted, score_format

_MOST_TOOLTIPS = 2_000
_FEW = 300  # candidates whose dots have room
_LABEL_GAP = 15.0


@dataclass(frozen=True, slots=True)
class _Reference:
    role: str
    name: str
    short: str  # where there is no room for the name
    score: float


def fitness_figure(results: RunResults, width: float) -> Figure | None:
    """Candidates as dots, the best so far as a line, what was there before as labelled lines: on the search split."""
    scored = [(c, c.score) for c in results.candidates if c.score is not None]
    if not scored:
        return None
    written = score_format(results)
    references = _references(results, written)
    labels = [f"{r.name} {written.score(r.score)}" for r in references]
    margin = min(max(text_width(label, 12) for label in labels) + 28, width * (0.33 if width > 500 else 0.44))
    key, top = legend(
        [("candidate", "dot", "one candidate"), ("best", "line", "best so far (ring: the chosen one)")]
        + ([("candidate", "cross", "failed")] if results.failed else []),
        8,
        2,
        width - 16,
    )
    height = top + (320 if width > 500 else 280)
    values = [score for _, score in scored] + [r.score for r in references]
    y = Axis(*score_range(values, is_fraction=written.is_fraction), start=height - 44, end=top + 12)
    x = Axis(0, len(results.candidates), start=46, end=width - margin)
    body = [*key, *_grid(results, x, y, written, top + 12)]
    body += _reference_lines(references, x, y, written, margin)
    body += _candidates(results, scored, x, y, written)
    lead, best = max(scored, key=lambda pair: (pair[1], -pair[0].number))
    description = (
        f"Search scores of {len(scored)} candidates over {results.n_generations} generations; the best, "
        f"candidate {lead.number}, scores {written.score(best)}. For comparison: {', '.join(labels[:-1]) or 'nothing'}."
    )
    return Figure(width, height, description, tuple(body))


def _references(results: RunResults, written: ScoreFormat) -> list[_Reference]:
    """Highest first, the search's own best last; models of a role with the same score share a label."""
    found: list[_Reference] = []
    for role in ("source", "unoptimised"):
        by_label: dict[str, list[tuple[str, float]]] = {}
        for model in results.of_role(role):
            score = mean_score(model.search, results.objective)
            if score is not None:
                by_label.setdefault(written.score(score), []).append((model.name, score))
        for same in by_label.values():
            names = ", ".join(name for name, _ in same)
            short = f"{len(same)} sources" if len(same) > 1 else "un-optimised" if role == "unoptimised" else names
            found.append(_Reference(role, names if len(same) < 4 else short, short, same[0][1]))
    tuned = [(mean_score(m.search, results.objective), m.name) for m in results.of_role("baseline")]
    known = [(score, name) for score, name in tuned if score is not None]
    if known:
        score, name = max(known, key=lambda pair: pair[0])
        found.append(_Reference("baseline", name, name, score))
    best = max(c.score for c in results.candidates if c.score is not None)
    return [*sorted(found, key=lambda r: -r.score), _Reference("best", "best", "best", best)]


def _grid(results: RunResults, x: Axis, y: Axis, written: ScoreFormat, top: float) -> list[str]:
    drawn = []
    firsts: dict[int, int] = {}
    for i, candidate in enumerate(results.candidates):
        firsts.setdefault(candidate.generation, i)
    edges = [*firsts.values(), len(results.candidates)]
    per_label = -(-len(firsts) * 26 // max(1, int(x.end - x.start)))
    for order, generation in enumerate(firsts):
        left, right = x(edges[order]), x(edges[order + 1])
        if order % 2 == 0 and len(firsts) > 1 and (x.end - x.start) / len(firsts) >= 6:
            drawn.append(rect(left, top, right - left, y.start - top, class_="panel"))
        if order % per_label == 0:
            drawn.append(text((left + right) / 2, y.start + 16, str(generation), "small muted", "middle"))
    for value in score_ticks(y):
        drawn.append(line([(x.start, y(value)), (x.end, y(value))], "grid"))
        drawn.append(text(x.start - 7, y(value) + 4, written.tick(value), "small muted", "end"))
    drawn.append(line([(x.start, y.start), (x.end, y.start)], "axis"))
    said = f"generation; scores on the {counted(results.n_search, 'search problem')}"
    drawn.append(text(x.start, y.start + 34, said, "small muted"))
    return drawn


def _reference_lines(references: list[_Reference], x: Axis, y: Axis, written: ScoreFormat, margin: float) -> list[str]:
    ordered = sorted(references, key=lambda r: (-r.score, r.role != "best"))
    places = spread([y(r.score) for r in ordered], _LABEL_GAP, y.end, y.start)
    drawn = []
    for reference, place in zip(ordered, places, strict=True):
        at, value = y(reference.score), written.score(reference.score)
        room = margin - 24 - text_width(value) - 4
        name = reference.name if text_width(reference.name) <= room else shorten(reference.short, room)
        children = [
            title(f"{reference.name}: {value}"),
            line([(x.end, at), (x.end + 6, at), (x.end + 14, place)], "leader"),
            named_value(x.end + 18, place + 4, name, value),
        ]
        if reference.role != "best":
            children.insert(1, line([(x.start, at), (x.end, at)], "line dashed"))
        drawn.append(group(children, class_=reference.role))
    return drawn


def _candidates(
    results: RunResults, scored: list[tuple[SearchedCandidate, float]], x: Axis, y: Axis, written: ScoreFormat
) -> list[str]:
    place = {candidate.number: x(i + 0.5) for i, candidate in enumerate(results.candidates)}
    points = [(place[c.number], y(score)) for c, score in scored]
    drawn = [
        group([cross(place[c.number], y.start - 6, 3.5, "line", title(_told(c, c.failure or "")))], class_="candidate")
        for c in results.failed
    ]
    drawn.append(group([dots(points, "dots large" if len(points) <= _FEW else "dots")], class_="candidate"))
    steps: list[tuple[float, float]] = []
    best = -float("inf")
    for candidate, score in scored:
        if score > best:
            if steps:
                steps.append((place[candidate.number], y(best)))
            best = score
            steps.append((place[candidate.number], y(best)))
    steps.append((x.end, y(best)))
    drawn.append(group([line(steps, "line thick")], class_="best"))
    if len(scored) <= _MOST_TOOLTIPS:
        told = [title(_told(c, written.score(score))) for c, score in scored]
        drawn.append(group(circle(px, py, 4, "hover", tip) for (px, py), tip in zip(points, told, strict=True)))
    chosen = results.best_candidate
    if chosen is not None and chosen.score is not None:
        tip = title(f"chosen: {_told(chosen, written.score(chosen.score))}")
        drawn.append(group([circle(place[chosen.number], y(chosen.score), 5, "ring", tip)], class_="best"))
    return drawn


def _told(candidate: SearchedCandidate, what: str) -> str:
    return f"candidate {candidate.number}, generation {candidate.generation}: {what}"
