"""The Pareto front: every candidate's search scores by two objectives, and who among them no other beats in all."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from evo_merge.evaluation.base import Evaluation
from evo_merge.pareto import front as front_places
from evo_merge.report.figures.layout import Axis, legend, score_ticks
from evo_merge.report.results import Model, RunResults
from evo_merge.report.searched import SearchedCandidate
from evo_merge.report.svg import Figure, circle, dots, group, line, shorten, text, text_width, title
from evo_merge.report.views import views
from evo_merge.report.wording import ROLES, ScoreFormat, counted, recipe_in_words, score_format

MOST_PAIRS = 6
MOST_TESTED = 12  # members of the front whose test scores have room
_MOST_TOOLTIPS = 1_000
_MOST_RECIPES = 300  # candidates whose recipes are told, beside the members of the front
_LONGEST_RECIPE = 240
_BESIDE = ("source", "unoptimised", "baseline")
_Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class _Panel:
    """A pair of objectives, as places in the fitness, with its axes and how their scores are written."""

    pair: tuple[int, int]
    x: Axis
    y: Axis
    written: tuple[ScoreFormat, ScoreFormat]

    def at(self, fitness: Sequence[float]) -> _Point:
        """Pixels of a fitness of all objectives."""
        return self.x(fitness[self.pair[0]]), self.y(fitness[self.pair[1]])


def front_figure(results: RunResults, width: float) -> Figure | None:
    """A panel for each pair of objectives, of the first ``MOST_PAIRS``; ``None`` where one number decides."""
    candidates = [c for c in results.candidates if c.fitness and not c.has_own_task]
    if not results.has_front or not candidates:
        return None
    formats = [score_format(view) for view in views(results)]
    pairs = list(combinations(range(len(formats)), 2))[:MOST_PAIRS]
    key, top = legend(_entries(results, candidates), 8, 2, width - 16)
    n_columns = 2 if len(pairs) > 1 and width > 500 else 1
    panel_width = width / n_columns
    plot_height = (400.0 if n_columns == 1 else 300.0) if width > 500 else 300.0
    body = list(key)
    for order, pair in enumerate(pairs):
        row, column = divmod(order, n_columns)
        left, above = column * panel_width, top + 10 + row * (plot_height + 74)
        x_low, x_high = _bounds(results, candidates, pair[0])
        y_low, y_high = _bounds(results, candidates, pair[1])
        panel = _Panel(
            pair,
            x=Axis(x_low, x_high, start=left + 56, end=left + panel_width - 22),
            y=Axis(y_low, y_high, start=above + 20 + plot_height, end=above + 20),
            written=(formats[pair[0]], formats[pair[1]]),
        )
        body += _drawn(results, candidates, panel, formats)
    n_rows = -(-len(pairs) // n_columns)
    height = top + 10 + n_rows * (plot_height + 74) - 8
    members = "; ".join(
        f"candidate {c.number}: {_scores_told(results.objectives, c.fitness, formats)}" for c in results.front[:MOST_TESTED]
    )
    count = counted(len(results.front), "member")
    held = "No candidate keeps to the constraints; the nearest:" if results.none_keeps else f"The Pareto front has {count}."
    description = (
        f"Search scores of {counted(len(candidates), 'candidate')} by {' and '.join(results.objectives)}. {held} {members}."
    )
    return Figure(width, height, description, tuple(body))


def _entries(results: RunResults, candidates: Sequence[SearchedCandidate]) -> list[tuple[str, str, str]]:
    """Of the legend."""
    chosen = "chosen" if results.best is not None else "leading"
    what = "misses the constraints by least" if results.none_keeps else "member of the Pareto front"
    entries = [("candidate", "dot", "a candidate"), ("best", "dot", f"{what} (ring: the {chosen} one)")]
    if any(c.violation > 0 for c in candidates):
        entries.insert(1, ("candidate", "open", "misses a constraint"))
    if _tested(results):
        entries.append(("best", "open", "the same on the test split"))
    kinds = [role for role in _BESIDE if any(_fitness(model.search) is not None for model in results.of_role(role))]
    return entries + [(role, "dot", ROLES[role]) for role in kinds]


def _bounds(results: RunResults, candidates: Sequence[SearchedCandidate], place: int) -> tuple[float, float]:
    """To hold all that is drawn and little more: from 0 on, a front of good models would be one dot.

    Candidates that are further below the rest than all of that is wide are drawn at the edge.
    """
    values = [c.fitness[place] for c in results.front] + [score[place] for _, score in _tested(results)]
    values += [found[place] for role in _BESIDE for m in results.of_role(role) if (found := _fitness(m.search)) is not None]
    everything = [c.fitness[place] for c in candidates] + values
    low, high = min(everything), max(everything)
    if min(values) < max(values):
        low = max(low, 2 * min(values) - max(values))
    pad = 0.06 * (high - low) or 0.1 * max(abs(high), 0.5)
    return low - pad, high + pad


def _drawn(
    results: RunResults, candidates: Sequence[SearchedCandidate], panel: _Panel, formats: Sequence[ScoreFormat]
) -> Iterator[str]:
    yield from _grid(results, panel)
    members = results.front
    numbers = {c.number for c in members}
    others = [c for c in candidates if c.number not in numbers]
    kept = [panel.at(c.fitness) for c in others if c.violation == 0]
    yield group([dots(kept, "dots large" if len(kept) <= _MOST_RECIPES else "dots")], class_="candidate")
    yield group([circle(*panel.at(c.fitness), 2.5, "open") for c in others if c.violation > 0], class_="candidate")
    if not results.has_batches:
        yield group([line(_staircase(members, panel), "line")], class_="best")
    if len(candidates) <= _MOST_TOOLTIPS:
        yield group(_tooltips(results, others, panel, formats))
    labels: list[tuple[_Point, str, str]] = []
    for (at, role), models in _beside(results, panel).items():
        tips = [_model_told(results, model, fitness, formats) for model, fitness in models]
        yield group([circle(*at, 5, "fill", title("\n\n".join(tips)))], class_=role)
        labels.append((at, ", ".join(model.name for model, _ in models), role))
    for number, test in _tested(results):
        member = next(c for c in members if c.number == number)
        said = f"candidate {number} on the test split: {_scores_told(results.objectives, test, formats)}"
        yield group(
            [line([panel.at(member.fitness), panel.at(test)], "leader"), circle(*panel.at(test), 4, "open", title(said))],
            class_="best",
        )
    for member in members:
        is_chosen = member.number == results.best_number
        tip = title(_told(results, member, formats, has_recipe=True))
        at = panel.at(member.fitness)
        yield group([circle(*at, 6.5 if is_chosen else 5, "ring" if is_chosen else "fill", tip)], class_="best")
        if is_chosen:
            labels.insert(0, (at, f"candidate {member.number}", "best"))
    drawn = [at for at, _, _ in labels] + [panel.at(c.fitness) for c in members] + [panel.at(t) for _, t in _tested(results)]
    yield from _labels(labels, panel, drawn)


def _beside(results: RunResults, panel: _Panel) -> dict[tuple[_Point, str], list[tuple[Model, tuple[float, ...]]]]:
    """What was there before the search, by place and role: models with the same scores share a point and a label."""
    places: dict[tuple[_Point, str], list[tuple[Model, tuple[float, ...]]]] = {}
    for role in _BESIDE:
        for model in results.of_role(role):
            if (fitness := _fitness(model.search)) is not None:
                places.setdefault((panel.at(fitness), role), []).append((model, fitness))
    return places


def _model_told(results: RunResults, model: Model, fitness: Sequence[float], formats: Sequence[ScoreFormat]) -> str:
    scores = _scores_told(results.objectives, fitness, formats)
    return f"{model.name} ({ROLES[model.role]}): {scores}\n{_shown(recipe_in_words(model.recipe))}"


def _grid(results: RunResults, panel: _Panel) -> Iterator[str]:
    x, y = panel.x, panel.y
    for value in _ticks(y, panel.written[1]):
        yield line([(x.start, y(value)), (x.end, y(value))], "grid")
        yield text(x.start - 7, y(value) + 4, panel.written[1].tick(value), "small muted", "end")
    for value in _ticks(x, panel.written[0]):
        yield line([(x(value), y.start), (x(value), y.end)], "grid")
        yield text(x(value), y.start + 16, panel.written[0].tick(value), "small muted", "middle")
    yield line([(x.start, y.end), (x.start, y.start), (x.end, y.start)], "axis")
    room = x.end - x.start + 40
    yield text(x.start - 48, y.end - 12, shorten(f"{results.objectives[panel.pair[1]]} ↑", room), "small strong")
    yield text(x.end, y.start + 34, shorten(f"{results.objectives[panel.pair[0]]} →", room), "small strong", "end")


def _ticks(axis: Axis, written: ScoreFormat) -> list[float]:
    """Without what no fraction can be: the axis goes on a little further, for points at its ends."""
    return [value for value in score_ticks(axis) if not written.is_fraction or 0 <= value <= 1]


def _staircase(members: Sequence[SearchedCandidate], panel: _Panel) -> list[_Point]:
    """Around all that the members are at least as good as, in these two objectives; higher is further right and up."""
    found = np.asarray([[c.fitness[place] for place in panel.pair] for c in members])
    corners = sorted(tuple(found[place].tolist()) for place in front_places(found))
    steps = [(panel.x.start, panel.y(corners[0][1]))]
    for a, b in corners:
        steps += [(steps[-1][0], panel.y(b)), (panel.x(a), panel.y(b))]
    return [*steps, (steps[-1][0], panel.y.start)]


def _tooltips(
    results: RunResults, candidates: Sequence[SearchedCandidate], panel: _Panel, formats: Sequence[ScoreFormat]
) -> Iterator[str]:
    """One a place, which tells of all that are there: scores of a small split often coincide."""
    places: dict[_Point, list[SearchedCandidate]] = {}
    for candidate in candidates:
        x, y = panel.at(candidate.fitness)
        places.setdefault((round(x, 1), round(y, 1)), []).append(candidate)
    for (x, y), same in places.items():
        told = [_told(results, c, formats, has_recipe=len(candidates) <= _MOST_RECIPES) for c in same[:4]]
        more = [f"and {len(same) - 4} more"] if len(same) > 4 else []
        yield circle(x, y, 4.5, "hover", title("\n\n".join([*told, *more])))


def _told(results: RunResults, candidate: SearchedCandidate, formats: Sequence[ScoreFormat], *, has_recipe: bool) -> str:
    stage = f"stage {candidate.stage}, " if candidate.stage else ""
    missed = f"; misses the constraints by {candidate.violation:.3g}" if candidate.violation > 0 else ""
    scores = _scores_told(results.objectives, candidate.fitness, formats)
    said = f"{stage}candidate {candidate.number}, generation {candidate.generation}: {scores}{missed}"
    return f"{said}\n{_shown(recipe_in_words(candidate.recipe))}" if has_recipe else said


def _shown(recipe: str) -> str:
    return recipe if len(recipe) <= _LONGEST_RECIPE else f"{recipe[:_LONGEST_RECIPE]} …"


def _scores_told(objectives: Sequence[str], fitness: Sequence[float], formats: Sequence[ScoreFormat]) -> str:
    scores = zip(objectives, fitness, formats, strict=True)
    return ", ".join(f"{name} {written.score(value)}" for name, value, written in scores)


def _labels(labels: Sequence[tuple[_Point, str, str]], panel: _Panel, drawn: Sequence[_Point]) -> Iterator[str]:
    """Names beside their points, on the first side with room; none where there is no room, since the point tells it too."""
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in drawn]
    for (x, y), name, role in labels:
        name = shorten(name, 150, 11)
        extent = text_width(name, 11)
        for left, base in ((x + 9, y + 4), (x - 9 - extent, y + 4), (x - extent / 2, y - 10), (x - extent / 2, y + 19)):
            box = (left, base - 10, left + extent, base + 3)
            inside = panel.x.start <= box[0] and box[2] <= panel.x.end and panel.y.end <= box[1] and box[3] <= panel.y.start
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                yield group(
                    [text(left, base, name, "small strong tinted halo" if role == "best" else "small tinted halo")], class_=role
                )
                break


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _fitness(evaluation: Evaluation | None) -> tuple[float, ...] | None:
    if evaluation is None or evaluation.failure is not None or not len(evaluation.scores):
        return None
    return tuple(evaluation.objectives.tolist())


def _tested(results: RunResults) -> list[tuple[int, tuple[float, ...]]]:
    """Candidate numbers and test scores of the members of the front, where they are few enough to be told apart."""
    found: list[tuple[int, tuple[float, ...]]] = []
    if len(results.front) <= MOST_TESTED:
        for model in (*results.of_role("best"), *results.of_role("front")):
            number = results.best_number if model.role == "best" else model.number
            test = _fitness(model.test)
            if number is not None and test is not None:
                found.append((number, test))
    return found
