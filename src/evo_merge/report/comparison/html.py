"""``comparison.html``: several runs on one page, with the look of ``report.html``, and like it without script or load."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from evo_merge import __version__
from evo_merge.report.comparison.figures.curves import MOST_BANDS, bands_figure, colour, curves_figure
from evo_merge.report.comparison.figures.scores import finals_figure
from evo_merge.report.comparison.notes import notes
from evo_merge.report.comparison.values import FairComparison, Standing
from evo_merge.report.comparison.wording import (
    comparison_format,
    contrast_note,
    friedman_sentence,
    reference_sentence,
    score_name,
    verdict,
)
from evo_merge.report.page import both_widths, environment
from evo_merge.report.svg import DARK, LIGHT, N_MODEL_COLOURS, STYLE, Figure, clean
from evo_merge.report.wording import ScoreFormat, counted, duration, p_value

FIGURES: dict[str, Callable[[FairComparison, ScoreFormat, float], Figure | None]] = {
    "curves": curves_figure,
    "bands": bands_figure,
    "tests": finals_figure,
}
_DASH = "–"


@dataclass(frozen=True, slots=True)
class _GroupRow:
    class_: str
    label: str
    n_runs: int
    rank: str
    mean: str
    shared_mean: str
    interval: str
    search: str
    reached: str
    to_target: str


@dataclass(frozen=True, slots=True)
class _ContrastRow:
    class_: str
    label: str
    n_seeds: int
    difference: str
    means: str
    p: str
    p_holm: str


@dataclass(frozen=True, slots=True)
class _RunRow:
    folder: str
    link: str  # empty where the run has no report
    label: str
    seed: str
    evaluations: int
    generations: int
    search: str
    test: str
    interval: str
    time: str


def render_comparison(comparison: FairComparison, folder: Path, failed_jobs: Sequence[str] = ()) -> str:
    """The whole page, to be written into the folder, from which it links to the reports of the runs."""
    written = comparison_format(comparison)
    first = comparison.compared[0]
    page = (
        environment()
        .get_template("comparison/page.html.j2")
        .render(
            comparison=comparison,
            task=first.task,
            objective=score_name(comparison),
            is_of_several=first.is_of_several,
            n_test=max(run.n_test for run in comparison.compared),
            verdict=verdict(comparison),
            ranked=friedman_sentence(comparison),
            reference=reference_sentence(comparison),
            has_missing=bool(comparison.missing and comparison.seeds and comparison.is_tested),
            notes=notes(comparison, failed_jobs),
            contrast_note=contrast_note(comparison),
            figures={name: both_widths(partial(draw, comparison, written)) for name, draw in FIGURES.items()},
            most_bands=MOST_BANDS,
            has_interval=any(standing.interval is not None for standing in comparison.standings),
            has_source=any(run.best_source is not None for run in comparison.compared),
            style=Markup(STYLE),
            n_colours=N_MODEL_COLOURS,
            light=LIGHT,
            dark=DARK,
            groups=[_group_row(comparison, standing, written) for standing in comparison.standings],
            contrasts=_contrast_rows(comparison, written),
            target=None if comparison.target is None else (written.score(comparison.target[0]), comparison.target[1]),
            runs=_run_rows(comparison, folder, written),
            seconds=duration(sum(run.seconds for run in comparison.compared)),
            version=__version__,
            counted=counted,
        )
    )
    return clean(page)


def _group_row(comparison: FairComparison, standing: Standing, written: ScoreFormat) -> _GroupRow:
    n_runs = len(standing.group.runs)
    return _GroupRow(
        class_=colour(comparison, standing.group)[0],
        label=standing.group.label,
        n_runs=n_runs,
        rank=_DASH if standing.mean_rank is None else f"{standing.mean_rank:.2f}",
        mean=_score(standing.mean, written),
        shared_mean=_score(standing.shared_mean, written),
        interval=_DASH if standing.interval is None else written.interval(standing.interval.low, standing.interval.high),
        search=_score(standing.search, written),
        reached=f"{standing.n_reached} of {n_runs}" if standing.to_target else _DASH,
        to_target=_evaluations(standing),
    )


def _evaluations(standing: Standing) -> str:
    if not standing.to_target:
        return _DASH
    if math.isfinite(standing.median_to_target):
        return f"{standing.median_to_target:g}"
    return "too few reached it" if standing.n_reached else "none reached it"


def _contrast_rows(comparison: FairComparison, written: ScoreFormat) -> list[_ContrastRow]:
    return [
        _ContrastRow(
            class_=colour(comparison, contrast.group)[0],
            label=contrast.group.label,
            n_seeds=contrast.test.n_blocks,
            difference=written.difference(contrast.test.difference),
            means=" and ".join(written.score(mean) for mean in contrast.test.means),
            p=p_value(contrast.test.p),
            p_holm=p_value(contrast.p_holm),
        )
        for contrast in comparison.contrasts
    ]


def _run_rows(comparison: FairComparison, folder: Path, written: ScoreFormat) -> list[_RunRow]:
    label_of = {id(run): group.label for group in comparison.groups for run in group.runs}
    rows = []
    for run in comparison.runs:
        report = run.folder / "report.html"
        bounds = run.test_interval
        rows.append(
            _RunRow(
                folder=os.path.relpath(run.folder, folder),
                link=quote(Path(os.path.relpath(report, folder)).as_posix()) if report.is_file() else "",
                label=label_of.get(id(run), "left out"),
                seed=_DASH if run.seed is None else str(run.seed),
                evaluations=run.evaluations,
                generations=run.generations,
                search=_score(run.best_search, written),
                test=_score(run.test, written),
                interval=_DASH if bounds is None else written.interval(bounds.low, bounds.high),
                time=duration(run.seconds),
            )
        )
    return rows


def _score(value: float | None, written: ScoreFormat) -> str:
    return _DASH if value is None else written.score(value)
