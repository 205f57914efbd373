"""Every candidate's search score in the order of the search, against what was there before it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from evo_merge.report.figures.layout import Axis, legend, score_range, score_ticks, stacked
from evo_merge.report.results import RunResults, search_score
from evo_merge.report.searched import SearchedCandidate
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
from evo_merge.report.views import views
from evo_merge.report.wording import ScoreFormat, counted, search_format

_MOST_TOOLTIPS = 1_000
_FEW = 300  # candidates whose dots have room
_LABEL_GAP = 15.0


@dataclass(frozen=True, slots=True)
class _Reference:
    role: str
    name: str
    short: str  # where there is no room for the name
    score: float


def fitness_figure(results: RunResults, width: float) -> Figure | None:
    """Candidates as dots, the best so far as a line, what was there before as labelled lines: on the search split.

    Where each generation was asked other problems there is no best so far, and lines join the best and the mean of each.
    Where the optimizer was told several numbers, a drawing for each.
    """
    if results.is_scalarized:
        return _fitness(results, width)
    drawn = [(view.objective, _fitness(view, width)) for view in views(results)]
    return stacked([(objective, figure) for objective, figure in drawn if figure is not None])


def _fitness(results: RunResults, width: float) -> Figure | None:
    scored = [(c, c.score) for c in results.candidates if c.score is not None]
    if not scored:
        return None
    written = search_format(results)
    references = _references(results, written)
    labels = [f"{r.name} {written.score(r.score)}" for r in references]
    margin = min(max(text_width(label, 12) for label in labels) + 28, width * (0.33 if width > 500 else 0.44))
    chosen = "ring: the chosen one" if results.best is not None else "ring: the leading one"
    lines = (
        [("best", "line", f"best of each generation ({chosen})"), ("ablation", "line", "mean of each generation")]
        if results.has_batches
        else [("best", "line", f"best so far ({chosen})")]
    )
    if results.none_keeps:
        lines = [("best", "dot", "ring: the nearest to the constraints")]
    failed = [("candidate", "cross", "failed")] if results.failed else []
    missed = [("candidate", "open", "misses a constraint")] if results.n_missed else []
    key, top = legend([("candidate", "dot", "one candidate"), *missed, *lines, *failed], 8, 2, width - 16)
    top += 16 if results.stages else 0
    height = top + (320 if width > 500 else 280)
    values = [score for _, score in scored] + [r.score for r in references]
    y = Axis(*score_range(values, is_fraction=written.is_fraction), start=height - 44, end=top + 12)
    x = Axis(0, len(results.candidates), start=46, end=width - margin)
    body = [*key, *_grid(results, x, y, written, top + 12), *_stage_borders(results, x, y, top + 2)]
    body += _reference_lines(references, x, y, written, margin)
    body += _candidates(results, scored, x, y, written)
    others = [label for label, reference in zip(labels, references, strict=True) if reference.role != "best"]
    in_stages = f" in the stages {', '.join(results.stages)}" if results.stages else ""
    lead = results.best_candidate
    told = "" if lead is None or lead.score is None else f"; candidate {lead.number} scores {written.score(lead.score)}"
    description = (
        f"Search scores of {len(scored)} candidates over {results.n_generations} generations{in_stages}{told}. "
        f"For comparison: {', '.join(others) or 'nothing'}."
    )
    return Figure(width, height, description, tuple(body))


def _references(results: RunResults, written: ScoreFormat) -> list[_Reference]:
    """Highest first, the search's own best last; models of a role with the same score share a label."""
    found: list[_Reference] = []
    for role in ("source", "unoptimised"):
        by_label: dict[str, list[tuple[str, float]]] = {}
        for model in results.of_role(role):
            score = search_score(model.search)
            if score is not None:
                by_label.setdefault(written.score(score), []).append((model.name, score))
        for same in by_label.values():
            names = ", ".join(name for name, _ in same)
            short = f"{len(same)} sources" if len(same) > 1 else "un-optimised" if role == "unoptimised" else names
            found.append(_Reference(role, names if len(same) < 4 else short, short, same[0][1]))
    tuned = [(search_score(m.search), m.name) for m in results.of_role("baseline")]
    known = [(score, name) for score, name in tuned if score is not None]
    if known:
        score, name = max(known, key=lambda pair: pair[0])
        found.append(_Reference("baseline", name, name, score))
    found.sort(key=lambda r: -r.score)
    comparable = [c.score for c in results.comparable if c.score is not None and c.violation == 0]
    return [*found, _Reference("best", "best", "best", max(comparable))] if comparable else found


def _grid(results: RunResults, x: Axis, y: Axis, written: ScoreFormat, top: float) -> list[str]:
    drawn = []
    generations = list(_generations(results))
    labelled = x.start - 26.0
    for order, (begin, members) in enumerate(generations):
        left, right = x(begin), x(begin + len(members))
        if order % 2 == 0 and len(generations) > 1 and (x.end - x.start) / len(generations) >= 6:
            drawn.append(rect(left, top, right - left, y.start - top, class_="panel"))
        middle = (left + right) / 2
        if middle - labelled >= 22:
            drawn.append(text(middle, y.start + 16, str(members[0].generation), "small muted", "middle"))
            labelled = middle
    for value in score_ticks(y):
        drawn.append(line([(x.start, y(value)), (x.end, y(value))], "grid"))
        drawn.append(text(x.start - 7, y(value) + 4, written.tick(value), "small muted", "end"))
    drawn.append(line([(x.start, y.start), (x.end, y.start)], "axis"))
    of_batches = "batches of " if results.has_batches else ""
    said = f"generation; scores on {of_batches}the {counted(results.n_search, 'search problem')}"
    drawn.append(text(x.start, y.start + 34, said, "small muted"))
    return drawn


def _generations(results: RunResults) -> Iterator[tuple[int, Sequence[SearchedCandidate]]]:
    """Each generation in the order of the run, with the place of its first candidate."""
    begin = 0
    for _, group_ in groupby(results.candidates, key=lambda c: (c.stage, c.generation)):
        members = list(group_)
        yield begin, members
        begin += len(members)


def _stage_borders(results: RunResults, x: Axis, y: Axis, top: float) -> list[str]:
    """A line where another stage begins or goes on, with its name where there is room."""
    if not results.stages:
        return []
    drawn, begin = [], 0
    for stage, group_ in groupby(results.candidates, key=lambda c: c.stage):
        end = begin + len(list(group_))
        left, right = x(begin), x(end)
        children = [title(f"stage {stage}"), line([(left, top - 6), (left, y.start)], "border")]
        label = shorten(stage, right - left - 8, 12)
        if label == stage or right - left >= 48:
            children.append(text(left + 4, top + 3, label, "small strong"))
        drawn.append(group(children))
        begin = end
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
    kept = [point for point, (c, _) in zip(points, scored, strict=True) if c.violation == 0]
    drawn = [
        group([cross(place[c.number], y.start - 6, 3.5, "line", title(_told(c, c.failure or "")))], class_="candidate")
        for c in results.failed
    ]
    drawn.append(group([dots(kept, "dots large" if len(points) <= _FEW else "dots")], class_="candidate"))
    if len(kept) < len(points):
        missed = [circle(*point, 2.5, "open") for point, (c, _) in zip(points, scored, strict=True) if c.violation > 0]
        drawn.append(group(missed, class_="candidate"))
    drawn += _generation_lines(results, x, y)
    drawn += _best_so_far(results, x, y)
    if len(scored) <= _MOST_TOOLTIPS:
        told = [title(_told(c, written.score(score))) for c, score in scored]
        drawn.append(group(circle(px, py, 4, "hover", tip) for (px, py), tip in zip(points, told, strict=True)))
    chosen = results.best_candidate
    if chosen is not None and chosen.score is not None:
        what = "chosen" if results.best is not None else "leading"
        tip = title(f"{what}: {_told(chosen, written.score(chosen.score))}")
        drawn.append(group([circle(place[chosen.number], y(chosen.score), 5, "ring", tip)], class_="best"))
    return drawn


def _best_so_far(results: RunResults, x: Axis, y: Axis) -> list[str]:
    """A line a stretch of candidates that were asked the same; what was best before it is where it goes on.

    Who misses a constraint is never the best.
    """
    drawn, begin = [], 0
    best: dict[str, float] = {}
    for portion, group_ in groupby(results.candidates, key=lambda c: c.portion):
        members = list(group_)
        end = begin + len(members)
        steps = [(x(begin), y(best[portion]))] if portion in best else []
        for i, candidate in enumerate(members):
            if candidate.score is None or candidate.violation > 0:
                continue
            if candidate.score > best.get(portion, -float("inf")):
                at = x(begin + i + 0.5)
                steps += [(at, y(best[portion]))] if portion in best else []
                best[portion] = candidate.score
                steps.append((at, y(candidate.score)))
        if steps and not members[0].is_of_batch:
            drawn.append(line([*steps, (x(end), y(best[portion]))], "line thick"))
        begin = end
    return [group(drawn, class_="best")] if drawn else []


def _generation_lines(results: RunResults, x: Axis, y: Axis) -> list[str]:
    """Best and mean of each generation that was asked problems of its own, joined inside a stage."""
    drawn = []
    by_stage: dict[str, list[tuple[float, float, float]]] = {}
    for begin, members in _generations(results):
        found = [c.score for c in members if c.score is not None and c.is_of_batch]
        if found:
            middle = x(begin + len(members) / 2)
            by_stage.setdefault(members[0].stage, []).append((middle, max(found), sum(found) / len(found)))
    for rows in by_stage.values():
        means, bests = [(at, y(mean)) for at, _, mean in rows], [(at, y(best)) for at, best, _ in rows]
        drawn.append(group([line(means, "line"), dots(means, "points")], class_="ablation"))
        drawn.append(group([line(bests, "line thick"), dots(bests, "points")], class_="best"))
    return drawn


def _told(candidate: SearchedCandidate, what: str) -> str:
    stage = f"stage {candidate.stage}, " if candidate.stage else ""
    return f"{stage}candidate {candidate.number}, generation {candidate.generation}: {what}"
