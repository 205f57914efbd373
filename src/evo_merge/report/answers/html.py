"""``answers.html``: the sheet on one page, with the look of ``report.html``, and like it without script or load."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from markupsafe import Markup

from evo_merge import __version__
from evo_merge.report.answers.cards import Card, all_of
from evo_merge.report.answers.estimates import Estimate
from evo_merge.report.answers.figure import class_of, format_of, kind_of, main_merge, matrix_figure
from evo_merge.report.answers.read import Answers
from evo_merge.report.answers.sheet import MERGES, AnswerSheet, kinds, pairs
from evo_merge.report.answers.wording import rule, verdict
from evo_merge.report.page import both_widths, environment
from evo_merge.report.svg import DARK, LIGHT, STYLE, clean
from evo_merge.report.wording import counted

_MOST_CARDS = 100  # of each kind; completions.csv has all
_DASH = "–"


@dataclass(frozen=True, slots=True)
class RunName:
    """What the page calls the run; ``folder`` as a shell wants it."""

    merge: str
    optimizer: str
    task: str
    folder: str


@dataclass(frozen=True, slots=True)
class _ModelRow:
    class_: str
    role: str
    name: str
    kind: str
    asked: int
    solved: int
    mean: str
    alone: int
    emergent: str
    lost: str
    estimate: str


@dataclass(frozen=True, slots=True)
class _PairRow:
    class_: str
    name: str
    cells: list[tuple[str, str]]  # a tooltip and a number a column


@dataclass(frozen=True, slots=True)
class _Part:
    """The sheet of one metric."""

    metric: str
    n: int
    verdict: str
    rule: str
    figure: tuple[Markup, Markup] | None
    models: list[_ModelRow]
    pairs: list[_PairRow]
    is_binary: bool
    has_merge: bool
    n_gained: int  # by the merge that the verdict is about
    n_gone: int
    emergent: list[Card]
    n_emergent: int
    lost: list[Card]
    n_lost: int
    has_estimates: bool


def render_answers(answers: Answers, run: RunName, estimated: Mapping[str, Mapping[str, Estimate]]) -> str:
    """The whole page; ``estimated`` by metric and model."""
    page = (
        environment()
        .get_template("answers/page.html.j2")
        .render(
            answers=answers,
            run=run,
            parts=[_part(answers.sheet(metric), estimated.get(metric, {})) for metric in answers.metrics],
            n_asked=len(answers.examples),
            style=Markup(STYLE),  # ours, and a child selector in it must stay what it is
            light=LIGHT,
            dark=DARK,
            version=__version__,
            counted=counted,
        )
    )
    return clean(page)


def _part(sheet: AnswerSheet, estimated: Mapping[str, Estimate]) -> _Part:
    merge = main_merge(sheet)
    emergent, lost = all_of(sheet, "emergent"), all_of(sheet, "lost")
    return _Part(
        metric=sheet.metric,
        n=len(sheet.examples),
        verdict=_no_merge(sheet) if merge is None else verdict(sheet, merge),
        rule=rule(sheet),
        figure=both_widths(partial(matrix_figure, sheet)),
        models=_model_rows(sheet, estimated),
        pairs=_pair_rows(sheet),
        is_binary=sheet.is_binary,
        has_merge=merge is not None,
        n_gained=0 if merge is None else len(kinds(sheet, merge).emergent),
        n_gone=0 if merge is None else len(kinds(sheet, merge).lost),
        emergent=emergent[:_MOST_CARDS],
        n_emergent=len(emergent),
        lost=lost[:_MOST_CARDS],
        n_lost=len(lost),
        has_estimates=bool(estimated),
    )


def _no_merge(sheet: AnswerSheet) -> str:
    n = int(sheet.solved.any(axis=1).sum())
    return f"{n:,} of {counted(len(sheet.examples), 'problem')} {'is' if n == 1 else 'are'} solved by at least one model."


def _model_rows(sheet: AnswerSheet, estimated: Mapping[str, Estimate]) -> list[_ModelRow]:
    solved, written = sheet.solved, format_of(sheet)
    is_alone = solved.sum(axis=1) == 1
    rows = []
    for place, model in enumerate(sheet.models):
        mean = sheet.mean(place)
        found = kinds(sheet, place) if model.role in MERGES else None
        rows.append(
            _ModelRow(
                class_=class_of(model.role),
                role=model.role,
                name=model.name,
                kind=kind_of(model.role),
                asked=int(sheet.asked[:, place].sum()),
                solved=int(solved[:, place].sum()),
                mean=_DASH if np.isnan(mean) else written.score(mean),
                alone=int((solved[:, place] & is_alone).sum()),
                emergent="" if found is None else str(len(found.emergent)),
                lost="" if found is None else str(len(found.lost)),
                estimate=_estimate(estimated.get(model.name)),
            )
        )
    return rows


def _estimate(found: Estimate | None) -> str:
    return "" if found is None else f"{100 * found.score:.1f} ± {100 * found.error:.1f} %"


def _pair_rows(sheet: AnswerSheet) -> list[_PairRow]:
    counts, models = pairs(sheet), sheet.models
    rows = []
    for i, model in enumerate(models):
        cells = []
        for j, other in enumerate(models):
            if i == j:
                cells.append((f"{model.name} solves {counts.both[i, i]}", str(counts.both[i, i])))
                continue
            tip = (
                f"{model.name} and {other.name}, both asked {counts.asked[i, j]}: both solve {counts.both[i, j]}, "
                f"only {model.name} {counts.only[i, j]}, only {other.name} {counts.only[j, i]}"
            )
            cells.append((tip, f"{counts.both[i, j]} / {counts.only[i, j]}"))
        rows.append(_PairRow(class_of(model.role), model.name, cells))
    return rows
