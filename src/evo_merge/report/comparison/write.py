"""Writes ``comparison.html`` and ``comparison.csv`` of several runs."""

import csv
import io
import math
import os
from collections.abc import Sequence
from pathlib import Path

from evo_merge.report.comparison.html import render_comparison
from evo_merge.report.comparison.values import FairComparison
from evo_merge.report.write import replace_text

COLUMNS = (
    "folder",
    "group",
    "task",
    "merge",
    "optimizer",
    "seed",
    "evaluations",
    "generations",
    "seconds",
    "best_search_score",
    "test_score",
    "test_low",
    "test_high",
    "best_source_test_score",
    "unoptimised_test_score",
    "compared_at",
    "search_score_there",
    "target",
    "evaluations_to_target",
)


def write_comparison(comparison: FairComparison, folder: Path, failed_jobs: Sequence[str] = ()) -> list[Path]:
    """Write both files into the folder, over earlier ones; ``failed_jobs`` are those of a sweep that left no finished run."""
    return [
        replace_text(folder / "comparison.html", render_comparison(comparison, folder, failed_jobs)),
        replace_text(folder / "comparison.csv", comparison_csv(comparison, folder)),
    ]


def comparison_csv(comparison: FairComparison, folder: Path) -> str:
    """A row a run, of full precision; what is unknown, never reached or not compared is empty."""
    placed = {
        id(run): (standing.group.label, standing.to_target[place] if standing.to_target else math.inf)
        for standing in comparison.standings
        for place, run in enumerate(standing.group.runs)
    }
    content = io.StringIO()
    table = csv.writer(content, lineterminator="\n")
    table.writerow(COLUMNS)
    for run in comparison.runs:
        label, to_target = placed.get(id(run), ("", math.inf))
        bounds, is_compared = run.test_interval, id(run) in placed
        there = float(run.best_so_far[comparison.evaluations - 1]) if is_compared and comparison.has_curves else None
        table.writerow(
            (
                os.path.relpath(run.folder, folder),
                label,
                run.task,
                run.merge,
                run.optimizer,
                run.seed,
                run.evaluations,
                run.generations,
                round(run.seconds, 3),
                run.best_search,
                run.test,
                None if bounds is None else bounds.low,
                None if bounds is None else bounds.high,
                run.best_source,
                run.unoptimised,
                comparison.evaluations if is_compared else None,
                None if there is None or math.isnan(there) else there,
                None if comparison.target is None else comparison.target[0],
                int(to_target) if math.isfinite(to_target) else None,
            )
        )
    return content.getvalue()
