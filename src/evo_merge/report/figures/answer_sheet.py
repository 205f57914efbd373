"""Which test problem each model solves: the paper's Figure 2, its columns sorted so that gains and losses show."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evo_merge.report.figures.layout import stacked
from evo_merge.report.results import Model, RunResults, scores
from evo_merge.report.svg import Figure, group, line, rect, shorten, spread, text, text_width, title
from evo_merge.report.views import views
from evo_merge.report.wording import ROLES, display_name, score_format
from evo_merge.statistics.intervals import is_binary

_ROW = 24.0
_MOST_TOOLTIPS = 1_000
_LEVELS = 5  # shades of a score that is neither right nor wrong


@dataclass(frozen=True, slots=True)
class ProblemGroup:
    """Problems, by position in the test split, that the same kinds of models solve."""

    label: str
    problems: tuple[int, ...]


def answer_sheet(results: RunResults, width: float) -> Figure | None:
    """A row a model (see ``sheet_models``), a column a test problem; a sheet an objective that has one."""
    drawn = [(view.objective, _sheet(view, width)) for view in sheets(results)]
    return stacked([(objective, figure) for objective, figure in drawn if figure is not None])


def sheets(results: RunResults) -> list[RunResults]:
    """The run as each objective sees it that problems are solved by; one that is the only objective always counts.

    Lengths of answers, and numbers that are the same for every problem, are nothing that a sheet could show.
    """
    found = list(views(results))
    return found if len(found) == 1 else [view for view in found if _is_about_problems(view)]


def _is_about_problems(results: RunResults) -> bool:
    columns = [_column(model, results) for model in sheet_models(results)]
    inside = all(column.min() >= 0 and column.max() <= 1 for column in columns)
    return inside and any(column.min() < column.max() for column in columns)


def _sheet(results: RunResults, width: float) -> Figure | None:
    models = sheet_models(results)
    if len(models) < 2:
        return None
    sheet = np.stack([_column(model, results) for model in models])  # (n_models, n_problems)
    groups = problem_groups(results)
    ordered = [problem for group_ in groups for problem in group_.problems]
    names = [display_name(model) for model in models]
    label = min(max(text_width(name) for name in names) + 14, width * 0.3)
    value_width = 58.0
    cell = (width - label - value_width) / len(ordered)
    body: list[str] = []
    for row, (model, name) in enumerate(zip(models, names, strict=True)):
        y = 4 + _ROW * row
        bold = "strong" if model.role == "best" else ""
        drawn = [
            text(label - 9, y + 16, shorten(name, label - 12), bold, "end"),
            rect(label, y, cell * len(ordered), _ROW - 4, class_="panel"),
            *_cells(sheet[row, ordered], label, y, cell),
            text(width, y + 16, score_format(results).score(float(sheet[row].mean())), f"small {bold}", "end"),
        ]
        body.append(group(drawn, class_=model.role))
    bottom = 4 + _ROW * len(models)
    if len(ordered) <= _MOST_TOOLTIPS and width > 500:
        body += _tooltips(results, models, sheet, ordered, label, bottom, cell)
    body += _brackets(groups, label, bottom, cell, width)
    height = bottom + 30 + 18 * len(groups) + 4
    listed = "; ".join(f"{g.label}: {len(g.problems)}" for g in groups)
    return Figure(width, height, f"Answer sheet of {len(ordered)} test problems. {listed}.", tuple(body))


def sheet_models(results: RunResults) -> list[Model]:
    """The tested models, of un-tuned merges by another method only the best, the evolved merge last.

    A stage's result that was itself chosen has no row of its own.
    """
    tested = [model for model in results.models if scores(model.test, results.objective) is not None]
    baselines = [model for model in tested if model.role == "baseline"]
    best_baseline = max(baselines, key=lambda model: _column(model, results).mean(), default=None)
    dropped = [m for m in baselines if m is not best_baseline]
    dropped += [m for m in tested if m.role == "stage" and m.recipe == results.recipe]
    order = (*(role for role in ROLES if role not in ("ablation", "best")), "ablation", "best")
    return sorted((m for m in tested if all(m is not other for other in dropped)), key=lambda model: order.index(model.role))


def are_right_or_wrong(results: RunResults) -> bool:
    """Whether every problem is solved or not, with nothing in between, by every objective that has a sheet."""
    return all(is_binary(_column(model, view)) for view in sheets(results) for model in sheet_models(view))


def problem_groups(results: RunResults) -> list[ProblemGroup]:
    """The test problems by who solves them, inside a group by the pattern of answers; empty groups are left out.

    Where scores are not just right or wrong there is one group, by the evolved merge's lead over the best source.
    """
    models = sheet_models(results)
    columns = [_column(model, results) for model in models]
    n = len(columns[0])

    def reached(*roles: str) -> NDArray[np.float64]:
        chosen = [c for model, c in zip(models, columns, strict=True) if model.role in roles]
        return np.max(chosen, axis=0) if chosen else np.zeros(n)

    source, other, best = reached("source"), reached("unoptimised", "baseline", "stage"), reached("best")
    roles = {model.role for model in models}
    others = "un-tuned and earlier merges" if "stage" in roles else "un-tuned merges"
    pattern = {i: tuple(-float(c[i]) for c in reversed(columns)) for i in range(n)}
    if not are_right_or_wrong(results):
        by_lead = sorted(range(n), key=lambda i: (float(source[i] - best[i]), i))
        return [ProblemGroup("all problems, by how far the evolved merge is ahead of the best source", tuple(by_lead))]
    s, o, b, a = source > 0, other > 0, best > 0, reached("ablation") > 0
    if "best" not in roles:
        kinds = [
            ("a source solves it", s),
            ("an un-tuned merge solves it, no source does", o & ~s),
            ("none of these solves it", ~s & ~o),
        ]
    elif "ablation" in roles:  # without its scales it is no rival, and no ancestor either
        kinds = [
            ("kept: the evolved merge and a source solve it", b & s),
            (f"shared: evolved and {others} solve it", b & o & ~s),
            ("new: the evolved merge only, perhaps unscaled too", b & ~s & ~o),
            ("lost: a source solves it, the evolved merge does not", ~b & s),
            ("missed: only another merge of the sheet solves it", ~b & ~s & (o | a)),
            ("none of these solves it", ~b & ~s & ~o & ~a),
        ]
    else:
        missed = "only another merge" if "stage" in roles else "only an un-tuned merge"
        kinds = [
            ("kept: the evolved merge and a source solve it", b & s),
            (f"shared: evolved and {others} solve it", b & o & ~s),
            ("new: only the evolved merge solves it", b & ~s & ~o),
            ("lost: a source solves it, the evolved merge does not", ~b & s),
            (f"missed: {missed} solves it", ~b & ~s & o),
            ("none of these solves it", ~b & ~s & ~o),
        ]
    found = [(label, sorted(np.flatnonzero(mask).tolist(), key=lambda i: (pattern[i], i))) for label, mask in kinds]
    return [ProblemGroup(label, tuple(problems)) for label, problems in found if problems]


def _column(model: Model, results: RunResults) -> NDArray[np.float64]:
    column = scores(model.test, results.objective)
    assert column is not None  # sheet_models keeps only models with test scores
    return column


def _cells(row: NDArray[np.float64], left: float, y: float, cell: float) -> list[str]:
    """Neighbouring problems with the same score are one rectangle."""
    largest = max(1.0, float(np.abs(row).max()))
    levels = np.ceil(np.clip(row / largest, 0, 1) * _LEVELS).astype(int).tolist()
    drawn, begin = [], 0
    for i in range(1, len(levels) + 1):
        if i == len(levels) or levels[i] != levels[begin]:
            if levels[begin]:
                shade = "fill" if levels[begin] == _LEVELS else f"fill shade{levels[begin]}"
                drawn.append(rect(left + begin * cell, y, (i - begin) * cell, _ROW - 4, class_=shade))
            begin = i
    return drawn


def _tooltips(
    results: RunResults,
    models: Sequence[Model],
    sheet: NDArray[np.float64],
    ordered: Sequence[int],
    left: float,
    bottom: float,
    cell: float,
) -> list[str]:
    drawn = []
    for place, problem in enumerate(ordered):
        solvers = [display_name(model) for model, score in zip(models, sheet[:, problem], strict=True) if score > 0]
        example = results.test_examples[problem].id if problem < len(results.test_examples) else str(problem)
        tip = title(f"{example}: {', '.join(solvers) or 'nobody'}")
        drawn.append(rect(left + place * cell, 4, cell, bottom - 8, tip, class_="hover"))
    return drawn


def _brackets(groups: Sequence[ProblemGroup], left: float, bottom: float, cell: float, width: float) -> list[str]:
    drawn, begin, centres = [], 0, []
    for group_ in groups:
        start, end = left + begin * cell, left + (begin + len(group_.problems)) * cell
        inset = min(1.0, (end - start) / 4)
        drawn.append(
            line(
                [
                    (start + inset, bottom + 2),
                    (start + inset, bottom + 6),
                    (end - inset, bottom + 6),
                    (end - inset, bottom + 2),
                ],
                "axis",
            )
        )
        centres.append((start + end) / 2)
        begin += len(group_.problems)
    letters = "ABCDEF"
    places = spread(centres, 13, left + 5, left + begin * cell - 5)
    for i, group_ in enumerate(groups):
        drawn.append(text(places[i], bottom + 20, letters[i], "small strong", "middle"))
        y = bottom + 42 + 18 * i
        drawn.append(text(8, y, letters[i], "small strong"))
        drawn.append(text(24, y, shorten(f"{len(group_.problems)} {group_.label}", width - 30, 11), "small"))
    return drawn
