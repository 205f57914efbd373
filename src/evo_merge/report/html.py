"""``report.html``: one page that needs no network and no second file, for a person who has never seen the paper.

Questions, completions and names come from outside: Jinja2 escapes all of them, and the page forbids itself every
script and every load.
"""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from evo_merge.recipe import Recipe, to_yaml
from evo_merge.report.figures.answer_sheet import answer_sheet, are_right_or_wrong
from evo_merge.report.figures.fitness import fitness_figure
from evo_merge.report.figures.genes import capping_rule, genes_figure
from evo_merge.report.figures.scores import scores_figure
from evo_merge.report.narrative import narrate
from evo_merge.report.results import RunResults, scores
from evo_merge.report.samples import samples
from evo_merge.report.svg import DARK, LIGHT, STYLE, Figure, clean
from evo_merge.report.wording import (
    ROLES,
    ScoreFormat,
    counted,
    display_name,
    duration,
    p_value,
    score_format,
)

FIGURES: Mapping[str, Callable[[RunResults, float], Figure | None]] = {
    "scores": scores_figure,
    "fitness": fitness_figure,
    "genes": genes_figure,
    "answer_sheet": answer_sheet,
}
WIDE, NARROW = 880.0, 360.0
_MOST_FAILURES = 20


@dataclass(frozen=True, slots=True)
class _ScoreRow:
    role: str
    name: str
    kind: str
    score: str
    interval: str
    difference: str
    p: str
    p_holm: str


@dataclass(frozen=True, slots=True)
class _GeneRow:
    name: str
    box: str
    start: str
    mean: str
    chosen: str


def render_html(results: RunResults, summary: Mapping[str, Any], run_folder: Path) -> str:
    """The whole page; ``summary`` is from ``summarise``, the folder is named in commands and holds the config."""
    environment = Environment(
        loader=PackageLoader("evo_merge", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    written = score_format(results)
    recipe = _recipe(results)
    page = environment.get_template(
        "template.html.j2"
    ).render(
        results=results,
        summary=summary,
        narrative=narrate(results, summary),
        figures={name: _both_widths(draw, results) for name, draw in FIGURES.items()},
        style=Markup(STYLE),  # ours, and a child selector in it must stay what it is
        light=LIGHT,
        dark=DARK,
        score_rows=_score_rows(results, summary, written),
        gene_rows=_gene_rows(results),
        capping_rule=capping_rule(results),
        search_best=_score_or_dash(summary["search"]["best"], written),
        samples=samples(results),
        results_are_binary=are_right_or_wrong(results),
        recipe=None if recipe is None else to_yaml(recipe),
        config=_config(run_folder),
        folder=shlex.quote(str(run_folder)),
        failures=results.failed[:_MOST_FAILURES],
        failed_models=_failed_models(results),
        timing=_timing(results),
        duration=duration(results.seconds),
        counted=counted,
    )
    return clean(page)


def _both_widths(draw: Callable[[RunResults, float], Figure | None], results: RunResults) -> tuple[Markup, Markup] | None:
    """For a desk and for a phone: text in a drawing that is only scaled down could not be read."""
    wide, narrow = draw(results, WIDE), draw(results, NARROW)
    return None if wide is None or narrow is None else (Markup(wide.inline()), Markup(narrow.inline()))


def _recipe(results: RunResults) -> Recipe | None:
    if results.best is not None:
        return results.best.recipe
    leader = results.best_candidate
    return None if leader is None else leader.recipe


def _score_rows(results: RunResults, summary: Mapping[str, Any], written: ScoreFormat) -> list[_ScoreRow]:
    test = summary.get("test", {})
    paired = test.get("paired", {})
    rows = []
    for model in results.models:
        if model.role == "best":
            found = test.get("best")
        else:
            found = test.get("sources" if model.role == "source" else "unoptimised", {}).get(model.name)
        if found is None:
            continue
        against = paired.get(model.name) if model.role != "best" else None
        rows.append(
            _ScoreRow(
                role=model.role,
                name=display_name(model),
                kind=ROLES.get(model.role, model.role),
                score=written.score(found["score"]),
                interval=written.interval(*found["interval"]),
                difference="" if against is None else written.difference(against["difference"]),
                p="" if against is None else p_value(against["p"]),
                p_holm="" if against is None else p_value(against["p_holm"]),
            )
        )
    return rows


def _gene_rows(results: RunResults) -> list[_GeneRow]:
    chosen = results.best_candidate
    last = results.n_generations - 1
    final = [c.genome for c in results.candidates if c.generation == last]
    means = np.mean(final, axis=0) if final else None
    return [
        _GeneRow(
            name=gene.name,
            box=f"{gene.low:g} to {gene.high:g}",
            start=f"{gene.start:.3g}",
            mean="" if means is None else f"{means[i]:.3f}",
            chosen="" if chosen is None else f"{chosen.genome[i]:.3f}",
        )
        for i, gene in enumerate(results.genes)
    ]


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
        answering = sum(c.evaluation_seconds for c in scored)
        rows.append(("building one candidate (mean)", duration(sum(c.merge_seconds for c in scored) / len(scored))))
        rows.append(("answering and scoring the search split (mean)", duration(answering / len(scored))))
        if answering > 0:
            rows.append(("tokens generated a second", f"{sum(c.new_tokens for c in scored) / answering:,.0f}"))
    tests = [
        m.test.evaluation_seconds
        for m in results.models
        if m.test is not None and scores(m.test, results.objective) is not None
    ]
    if tests:
        rows.append(("answering and scoring the test split (mean)", duration(sum(tests) / len(tests))))
    return rows
