"""The matrix of problems x models: a row a problem, those that most models solve on top, a column a model."""

import math
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from evo_merge.report.answers.sheet import MERGES, AnswerSheet, easiest_first, kinds
from evo_merge.report.svg import Figure, group, line, rect, shorten, spread, text, text_width, title
from evo_merge.report.wording import ROLES, ScoreFormat, counted

COLOURS = ("source", "unoptimised", "baseline", "best", "stage", "ablation")  # the roles that have one
_LOWEST_ROW, _HIGHEST_ROW = 1.2, 14.0
_TALLEST = 1_200.0  # of the rows together, where they are many enough to be at their lowest
_MOST_TOOLTIPS = 1_000
_LEVELS = 5  # shades of a score that is neither right nor wrong
_MARK = 12.0  # width of the column that marks what emerged
_GAP = 3.0
_DASH = "–"


def class_of(role: str) -> str:
    """The class that gives a model of the role its colour."""
    return role if role in COLOURS else "candidate"


def main_merge(sheet: AnswerSheet) -> int | None:
    """Place of the merge that a sheet is about: the chosen one, else the first of the others; ``None`` where there is none."""
    merges = sheet.of_role("best") or sheet.of_role(*MERGES)
    return merges[0] if merges else None


def format_of(sheet: AnswerSheet) -> ScoreFormat:
    """How its scores are written: in percent where all lie between 0 and 1."""
    low, high = sheet.bounds
    return ScoreFormat(low >= 0 and high <= 1)


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where the cells stand, in pixels."""

    left: float
    top: float
    column: float
    row: float


def matrix_figure(sheet: AnswerSheet, width: float) -> Figure | None:
    """The whole sheet as a drawing; ``None`` where there is no problem or no model."""
    n, m = len(sheet.examples), len(sheet.models)
    if not n or not m:
        return None
    order = easiest_first(sheet)
    left = 64.0 if width < 500 else 132.0
    merge = main_merge(sheet)
    column = (width - left - _MARK - 4) / m
    names = [model.name for model in sheet.models]
    is_upright = max(text_width(name, 11) for name in names) > column - _GAP
    head = min(130.0, max(text_width(name, 11) for name in names) + 12) if is_upright else 20.0
    frame = _Frame(left, head, column, min(max(_TALLEST / n, _LOWEST_ROW), _HIGHEST_ROW))
    bottom = head + frame.row * n
    body = _heads(names, frame, is_upright=is_upright)
    levels = _levels(sheet)[order]
    for place, model in enumerate(sheet.models):
        x = left + column * place
        body.append(group(_column(levels[:, place], x, frame), class_=class_of(model.role)))
    body += _means(sheet, frame, bottom, merge)
    body += _counts(sheet, order, frame, width)
    if merge is not None:
        emergent = set(kinds(sheet, merge).emergent)
        marks = [
            rect(width - _MARK, head + frame.row * i, 7, max(frame.row, 2.0), class_="fill") for i in _places(order, emergent)
        ]
        body.append(group(marks, class_=class_of(sheet.models[merge].role)))
    if n <= _MOST_TOOLTIPS and width > 500:
        body += _tooltips(sheet, order, frame, width)
    height = bottom + 24
    return Figure(width, height, _description(sheet, merge), tuple(body))


def _places(order: list[int], problems: set[int]) -> list[int]:
    return [place for place, problem in enumerate(order) if problem in problems]


def _description(sheet: AnswerSheet, merge: int | None) -> str:
    said = f"Matrix of {counted(len(sheet.examples), 'problem')} and {counted(len(sheet.models), 'model')}."
    solved = sheet.solved.sum(axis=0)
    said += "".join(f" {model.name} solves {solved[place]}." for place, model in enumerate(sheet.models))
    return said if merge is None else f"{said} {len(kinds(sheet, merge).emergent)} are emergent."


def _levels(sheet: AnswerSheet) -> NDArray[np.int64]:
    """``(n_problems, n_models)``, the shade from 0 to 5, and -1 where a model was not asked."""
    low, high = min(0.0, sheet.bounds[0]), sheet.bounds[1]
    share = np.nan_to_num((sheet.scores - low) / (high - low if high > low else 1.0))
    return np.where(sheet.asked, np.ceil(np.clip(share, 0, 1) * _LEVELS), -1).astype(np.int64)


def _heads(names: list[str], frame: _Frame, *, is_upright: bool) -> list[str]:
    drawn = []
    for place, name in enumerate(names):
        centre = frame.left + frame.column * place + (frame.column - _GAP) / 2
        if is_upright:
            x, y = centre + 4, frame.top - 6
            drawn.append(text(x, y, shorten(name, frame.top - 10, 11), "small", transform=f"rotate(-90 {x:.2f} {y:.2f})"))
        else:
            drawn.append(text(centre, frame.top - 6, name, "small", "middle"))
    return drawn


def _column(levels: NDArray[np.int64], x: float, frame: _Frame) -> list[str]:
    """Neighbouring problems with the same shade are one rectangle; where a model was not asked there is none."""
    drawn, begin = [], 0
    for level, rows in groupby(levels.tolist()):
        end = begin + len(list(rows))
        y, height = frame.top + frame.row * begin, frame.row * (end - begin)
        if level >= 0:
            shade = "panel" if level == 0 else "fill" if level == _LEVELS else f"fill shade{level}"
            drawn.append(rect(x, y, frame.column - _GAP, height, class_=shade))
        begin = end
    return drawn


def _means(sheet: AnswerSheet, frame: _Frame, bottom: float, merge: int | None) -> list[str]:
    """Below each column the model's mean score, where there is room for all; the page's table has them too."""
    written = [
        _DASH if math.isnan(mean) else format_of(sheet).score(mean) for mean in map(sheet.mean, range(len(sheet.models)))
    ]
    if max(text_width(score, 11) for score in written) > frame.column:
        return []
    drawn = [text(frame.left - 9, bottom + 17, "mean", "small muted", "end")]
    for place, score in enumerate(written):
        x = frame.left + frame.column * place + (frame.column - _GAP) / 2
        drawn.append(text(x, bottom + 17, score, "small strong" if place == merge else "small", "middle"))
    return drawn


def _counts(sheet: AnswerSheet, order: list[int], frame: _Frame, width: float) -> list[str]:
    """On the left, how many models solve the problems of each stretch, and how many problems those are."""
    counts = sheet.solved.sum(axis=1)[order].tolist()
    drawn, begin, centres, labels = [], 0, [], []
    for n_solvers, rows in groupby(counts):
        n = len(list(rows))
        top, bottom = frame.top + frame.row * begin, frame.top + frame.row * (begin + n)
        drawn.append(line([(frame.left - 4, top + 0.5), (frame.left - 4, max(top + 1, bottom - 0.5))], "axis"))
        centres.append((top + bottom) / 2 + 4)
        solvers = "nobody" if not n_solvers else "all" if n_solvers == len(sheet.models) else str(n_solvers)
        labels.append(f"{solvers}: {n:,}" if width < 500 else f"{n:,} solved by {solvers}")
        begin += n
    places = spread(centres, 13, frame.top + 9, max(frame.top + 9 + 13 * (len(centres) - 1), frame.top + frame.row * begin))
    return drawn + [text(frame.left - 9, y, label, "small muted", "end") for y, label in zip(places, labels, strict=True)]


def _tooltips(sheet: AnswerSheet, order: list[int], frame: _Frame, width: float) -> list[str]:
    drawn, solved = [], sheet.solved
    for place, problem in enumerate(order):
        solvers = [model.name for model, is_solved in zip(sheet.models, solved[problem], strict=True) if is_solved]
        tip = title(f"{sheet.examples[problem].id}: {', '.join(solvers) or 'nobody'}")
        y = frame.top + frame.row * place
        drawn.append(rect(frame.left, y, width - frame.left, frame.row, tip, class_="hover"))
    return drawn


def kind_of(role: str) -> str:
    """What a table says of a role."""
    return ROLES.get(role, role)
