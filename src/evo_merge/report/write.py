"""Writes what a person and a program read of a run: ``summary.json``, ``report.html`` and the figures as files."""

import json
import os
from pathlib import Path

from evo_merge.report.html import FIGURES, render_html
from evo_merge.report.page import WIDE
from evo_merge.report.results import read_results
from evo_merge.report.summary import summarise
from evo_merge.study import Study


def write_report(run_folder: Path, study: Study) -> list[Path]:
    """Write the report of a run, finished or not, over an earlier one.

    Returns:
        The files: ``summary.json``, ``report.html``, and ``figures/*.svg`` as far as there is something to draw.
    """
    results = read_results(study)
    summary = summarise(results)
    written = [
        replace_text(run_folder / "summary.json", json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False) + "\n"),
        replace_text(run_folder / "report.html", render_html(results, summary, run_folder)),
    ]
    for name, draw in FIGURES.items():
        figure = draw(results, WIDE)
        if figure is not None:
            written.append(replace_text(run_folder / "figures" / f"{name}.svg", figure.standalone()))
    return written


def replace_text(path: Path, content: str) -> Path:
    """Write a file such that a reader sees the old one or the new one, never a half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        unfinished.write_text(content, encoding="utf-8")
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path
