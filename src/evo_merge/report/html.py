"""``report.html``: one page that needs no network and no second file, for a person who has never seen the paper.

Questions, completions and names come from outside: Jinja2 escapes all of them, and the page forbids itself every
script and every load.
"""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from markupsafe import Markup

from evo_merge.evaluation.cost import NOTHING
from evo_merge.recipe import DataFlowRecipe, to_yaml
from evo_merge.report.answers.of_run import answer_words
from evo_merge.report.archive_wording import archive_words
from evo_merge.report.constraint_wording import constraint_rows
from evo_merge.report.figures.answer_sheet import answer_sheet, are_right_or_wrong
from evo_merge.report.figures.archive import archive_figure
from evo_merge.report.figures.fitness import fitness_figure
from evo_merge.report.figures.front import front_figure
from evo_merge.report.figures.genes import MOST_ROWS, capping_rule, genes_figure
from evo_merge.report.figures.hypervolume import hypervolume_figure
from evo_merge.report.figures.mergeability import mergeability_figure
from evo_merge.report.figures.path import path_figure
from evo_merge.report.figures.scores import scores_figure
from evo_merge.report.front_wording import front_words
from evo_merge.report.gene_rows import gene_rows
from evo_merge.report.narrative import first_generation, narrate
from evo_merge.report.narrative_several import narrate_several
from evo_merge.report.page import both_widths, environment
from evo_merge.report.results import RunResults, scores
from evo_merge.report.selected_wording import selected_told
from evo_merge.report.summary import tested
from evo_merge.report.svg import DARK, LIGHT, STYLE, Figure, clean
from evo_merge.report.views import views
from evo_merge.report.wording import (
    ROLES,
    ScoreFormat,
    counted,
    display_name,
    duration,
    formula,
    listing,
    p_value,
    path_in_words,
    score_format,
    search_format,
)

FIGURES: Mapping[str, Callable[[RunResults, float], Figure | None]] = {
    "scores": scores_figure,
    "front": front_figure,
    "hypervolume": hypervolume_figure,
    "path": path_figure,
    "mergeability": mergeability_figure,
    "fitness": fitness_figure,
    "genes": genes_figure,
    "archive": archive_figure,
    "answer_sheet": answer_sheet,
}
_MOST_FAILURES = 20
_SUMMARY_KEYS = {"source": "sources", "stage": "stages", "ablation": "ablation"}  # the others are all "unoptimised"


@dataclass(frozen=True, slots=True)
class _ScoreRow:
    role: str
    name: str
    kind: str
    score: str
    interval: str
    difference: str
    difference_interval: str
    p: str


@dataclass(frozen=True, slots=True)
class _ScoreTable:
    """The test scores by one objective, on so many problems."""

    objective: str
    n: int
    rows: list[_ScoreRow]


def render_html(results: RunResults, summary: Mapping[str, Any], run_folder: Path) -> str:
    """The whole page; ``summary`` is from ``summarise``, the folder is named in commands and holds the config."""
    figures = {name: both_widths(partial(draw, results)) for name, draw in FIGURES.items()}
    if len(results.objectives) == 1:
        results = views(results)[0]  # the run may ask more than its objective is about
    tables = [_ScoreTable(view.objective, len(view.test_examples), _score_rows(view, summary)) for view in views(results)]
    chosen = results.best_candidate
    constraint_splits, constraints = constraint_rows(results)
    template = environment().get_template("template.html.j2")
    page = template.render(
        results=results,
        summary=summary,
        narrative=narrate_several(results, summary) if len(tables) > 1 else narrate(results, summary),
        figures=figures,
        style=Markup(STYLE),  # ours, and a child selector in it must stay what it is
        light=LIGHT,
        dark=DARK,
        score_tables=[table for table in tables if table.rows],
        front=front_words(results, run_folder),
        constraint_splits=constraint_splits,
        constraint_rows=constraints,
        formula=formula(results) if results.is_scalarized else "",
        gene_rows=gene_rows(results),
        has_choices=any(gene.kind == "choice" for gene in results.genes),
        archive=None if results.archive is None else archive_words(results.archive, run_folder),
        capping_rule=capping_rule(results),
        gene_rows_rule=capping_rule(results, MOST_ROWS),
        search_best=_score_or_dash(summary["search"]["best"], search_format(results)),
        answers=answer_words(results),
        results_are_binary=are_right_or_wrong(results),
        recipe=None if results.recipe is None else to_yaml(results.recipe),
        roles={model.role for model in results.models},
        has_paths=any(isinstance(c.recipe, DataFlowRecipe) for c in results.candidates),
        has_mixes=any(not isinstance(c.recipe, DataFlowRecipe) for c in results.candidates),
        has_scales=results.path is not None and any(step.scale != 1 for step in results.path.path),
        path_words=None if results.path is None else path_in_words(results.path),
        model_a=None if results.path is None else results.path.models[0].name,
        inner=_inner(results),
        first_generation=first_generation(results),
        selected=selected_told(results, search_format(results)),
        own_tasks=listing(list(dict.fromkeys(c.stage for c in results.candidates if c.has_own_task))),
        n_rivals=_n_rivals(results),
        lead=_lead(results),
        n_asked=0 if chosen is None else chosen.n_asked,
        config=_config(run_folder),
        folder=shlex.quote(str(run_folder)),
        failures=results.failed[:_MOST_FAILURES],
        failed_models=_failed_models(results),
        timing=_timing(results),
        duration=duration(results.seconds),
        counted=counted,
    )
    return clean(page)


def _inner(results: RunResults) -> str:
    """The models of the path that were themselves merged on the way."""
    if results.path is None:
        return ""
    return listing([source.name for source in results.path.models if source.reference.recipe is not None])


def _lead(results: RunResults) -> str:
    """What the candidate that the page shows is called."""
    if results.best is not None:
        return "the evolved merge"
    return "the candidate nearest to the constraints" if results.none_keeps else "the best candidate so far"


def _n_rivals(results: RunResults) -> int:
    """Candidates among whose search scores the choice was made."""
    return sum(
        (c.score is not None or c.failure is not None) and not c.repeated and not c.has_own_task for c in results.candidates
    )


def _score_rows(results: RunResults, summary: Mapping[str, Any]) -> list[_ScoreRow]:
    """Of a run as one objective sees it."""
    written = score_format(results)
    test = tested(summary, results.objective)
    paired = test.get("paired", {})
    rows = []
    for model in results.models:
        if model.role == "best":
            found = test.get("best")
        else:
            found = test.get(_SUMMARY_KEYS.get(model.role, "unoptimised"), {}).get(model.name)
        if found is None:
            continue
        against = paired.get(model.name) if model.role != "best" else None
        rows.append(
            _ScoreRow(
                role=model.role,
                name=display_name(model),
                kind=ROLES.get(model.role, model.role),
                score=written.score(found["score"]),
                interval=written.bounds(found["interval"]),
                difference="" if against is None else written.difference(against["difference"]),
                difference_interval="" if against is None else written.differences(against["interval"]),
                p="" if against is None else p_value(against["p_adjusted"]),
            )
        )
    return rows


def _score_or_dash(value: float | None, written: ScoreFormat) -> str:
    return "–" if value is None else written.score(value)


def _config(run_folder: Path) -> str:
    path = run_folder / ".hydra" / "config.yaml"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _failed_models(results: RunResults) -> list[tuple[str, str]]:
    """Sources and merges that could not be scored, with the reason."""
    return [
        (display_name(model), evaluation.failure)
        for model in results.models
        for evaluation in (model.search, model.test)
        if evaluation is not None and evaluation.failure is not None
    ]


def _timing(results: RunResults) -> list[tuple[str, str]]:
    scored = [c for c in results.candidates if c.score is not None and not c.repeated]
    rows = [("whole run, all sessions", duration(results.seconds))]
    if scored:
        cost = sum((c.cost for c in scored), NOTHING)
        answering = cost.evaluation_seconds
        rows.append(("building one candidate (mean)", duration(cost.merge_seconds / len(scored))))
        asked = "problems of a generation" if results.has_batches else "search split"
        rows.append((f"answering and scoring the {asked} (mean)", duration(answering / len(scored))))
        if cost.n_drafted:
            rows.append(("tokens drafted from earlier candidates' answers", f"{cost.n_drafted:,}"))
            rows.append(("drafted tokens that held", f"{cost.n_accepted:,} of {cost.new_tokens:,} generated"))
        if cost.n_degenerate:
            rows.append(("answers given up because they repeated themselves", f"{cost.n_degenerate:,}"))
        if answering > 0:
            rows.append(("tokens generated a second", f"{cost.new_tokens / answering:,.0f}"))
    tests = [
        m.test.cost.evaluation_seconds
        for m in results.models
        if m.test is not None and scores(m.test, results.objective) is not None
    ]
    if tests:
        rows.append(("answering and scoring the test split (mean)", duration(sum(tests) / len(tests))))
    return rows
