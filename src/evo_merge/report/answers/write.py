"""Writes a sheet as a page, a figure and tables.

There are two tables, for two kinds of readers. ``answers.csv`` is the matrix itself, a row a problem and a column a model,
small enough for a spreadsheet. ``completions.csv`` has a row for each problem, model and metric, with what was said: in the
matrix, texts of a thousand characters would hide the numbers. ``answers.parquet`` is the long one with its types.
"""

import csv
import io
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evo_merge.report.answers.estimates import Estimate
from evo_merge.report.answers.figure import matrix_figure
from evo_merge.report.answers.html import RunName, render_answers
from evo_merge.report.answers.read import Answers
from evo_merge.report.answers.sheet import MERGES, kinds
from evo_merge.report.figures.layout import stacked
from evo_merge.report.page import WIDE
from evo_merge.report.write import replace_text

LONG_COLUMNS = (
    "split",
    "position",
    "id",
    "question",
    "reference",
    "model",
    "role",
    "candidate",
    "metric",
    "score",
    "kind",
    "completion",
)


def write_answers(
    answers: Answers, run: RunName, out: Path, estimated: Mapping[str, Mapping[str, Estimate]] | None = None
) -> list[Path]:
    """Write all files into the folder, over earlier ones; raises ``OSError`` where that cannot be done.

    Args:
        answers: What is shown.
        run: Where it comes from.
        out: The folder.
        estimated: By metric and model, for those that were asked some of the problems.
    """
    rows = list(long_rows(answers))
    written = [
        replace_text(out / "answers.html", render_answers(answers, run, estimated or {})),
        replace_text(out / "answers.csv", _csv(wide_rows(answers))),
        replace_text(out / "completions.csv", _csv([LONG_COLUMNS, *rows])),
        _write_parquet(rows, out / "answers.parquet"),
    ]
    drawn = [(metric, matrix_figure(answers.sheet(metric), WIDE)) for metric in answers.metrics]
    figure = stacked([(metric, figure) for metric, figure in drawn if figure is not None])
    return [*written, replace_text(out / "answers.svg", figure.standalone())] if figure is not None else written


def wide_rows(answers: Answers) -> list[Sequence[Any]]:
    """A header, and a row a problem in the order of the split; empty where a model was not asked.

    A column a model, and of several metrics one a model and metric, named ``model: metric``.
    """
    columns = [(model, place) for place in range(len(answers.metrics)) for model in answers.models]
    names = [model.name if len(answers.metrics) == 1 else f"{model.name}: {answers.metrics[place]}" for model, place in columns]
    rows: list[Sequence[Any]] = [("id", "question", "reference", *names)]
    for i, example in enumerate(answers.examples):
        scores = [_score(float(model.scores[i, place])) for model, place in columns]
        rows.append((example.id, example.question, example.answer, *scores))
    return rows


def long_rows(answers: Answers) -> Iterator[tuple[Any, ...]]:
    """A row for each problem, model and metric that there is a score of; ``kind`` is that of the problem for a merge."""
    for place, metric in enumerate(answers.metrics):
        sheet = answers.sheet(metric)
        ids = [example.id for example in sheet.examples]
        kind_of = {
            model.name: {ids[i]: kind for kind in ("emergent", "lost", "kept", "neither") for i in getattr(found, kind)}
            for column, model in enumerate(sheet.models)
            if model.role in MERGES and (found := kinds(sheet, column))
        }
        for i, example in enumerate(answers.examples):
            problem = (answers.split, i, example.id, example.question, example.answer)
            for model in answers.models:
                score = float(model.scores[i, place])
                if not math.isnan(score):
                    kind = kind_of.get(model.name, {}).get(example.id)
                    yield (*problem, model.name, model.role, model.number, metric, score, kind, model.completions[i])


def _csv(rows: Sequence[Sequence[Any]]) -> str:
    content = io.StringIO()
    csv.writer(content, lineterminator="\n").writerows(rows)
    return content.getvalue()


def _score(value: float) -> int | float | None:
    return None if math.isnan(value) else int(value) if value.is_integer() else value


def _write_parquet(rows: Sequence[Sequence[Any]], path: Path) -> Path:
    import pyarrow  # here, because it takes its time
    from pyarrow import parquet

    types = {"position": pyarrow.int64(), "candidate": pyarrow.int64(), "score": pyarrow.float64()}
    schema = pyarrow.schema([(name, types.get(name, pyarrow.string())) for name in LONG_COLUMNS])
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in LONG_COLUMNS]
    table = pyarrow.table(dict(zip(LONG_COLUMNS, columns, strict=True)), schema=schema)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        parquet.write_table(table, unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path
