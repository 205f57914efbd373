"""The evaluations of a study and their answers, written to its tables and read from them."""

import json
import math
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evo_merge.evaluation.base import Evaluation, failed
from evo_merge.evaluation.cost import Cost


def write_evaluation(db: sqlite3.Connection, digest: str, portion: str, evaluation: Evaluation) -> None:
    """Insert an evaluation with every score and completion; the caller begins and ends the transaction.

    Args:
        db: The study's file.
        digest: Hash of the recipe, which the file has.
        portion: Key of what was asked.
        evaluation: What came of it.
    """
    cost = evaluation.cost
    cursor = db.execute(
        "INSERT INTO evaluations (recipe, portion, metrics, n_objectives, fitness, scalar, violation, failure, "
        "merge_seconds, evaluation_seconds, new_tokens) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            digest,
            portion,
            json.dumps(evaluation.metrics),
            evaluation.n_objectives,
            None if evaluation.failure is not None else _numbers(evaluation.fitness.tolist()),
            evaluation.scalar,
            evaluation.violation,
            evaluation.failure,
            cost.merge_seconds,
            cost.evaluation_seconds,
            cost.new_tokens,
        ),
    )
    counted = (cursor.lastrowid, cost.n_degenerate, cost.n_drafted, cost.n_accepted)
    db.execute("INSERT INTO decoding VALUES (?, ?, ?, ?)", counted)
    positions = range(len(evaluation.completions)) if evaluation.positions is None else evaluation.positions
    answers = zip(positions, evaluation.completions, evaluation.scores.tolist(), strict=True)
    rows = [(cursor.lastrowid, i, text, _numbers(scores)) for i, text, scores in answers]
    db.executemany("INSERT INTO answers VALUES (?, ?, ?, ?)", rows)


def read_evaluation(db: sqlite3.Connection, digest: str, portion: str) -> Evaluation | None:
    """What the recipe of that hash scored on the portion of that key, or ``None`` where it was not evaluated on it."""
    row = db.execute(
        "SELECT id, metrics, n_objectives, scalar, violation, failure, merge_seconds, evaluation_seconds, new_tokens "
        "FROM evaluations WHERE recipe = ? AND portion = ?",
        (digest, portion),
    ).fetchone()
    if row is None:
        return None
    number, metrics, n_objectives, scalar, violation, failure, merge_seconds, evaluation_seconds, new_tokens = row
    names = tuple(json.loads(metrics))
    if failure is not None:
        return replace(failed(names, n_objectives, failure, Cost(merge_seconds)), scalar=scalar)
    query = "SELECT position, completion, scores FROM answers WHERE evaluation = ? ORDER BY position"
    answers = db.execute(query, (number,)).fetchall()
    query = "SELECT n_degenerate, n_drafted, n_accepted FROM decoding WHERE evaluation = ?"
    counted = db.execute(query, (number,)).fetchone() or (0, 0, 0)
    return Evaluation(
        names,
        n_objectives,
        _matrix([scores for *_, scores in answers], len(names)),
        completions=tuple(str(completion) for _, completion, _ in answers),
        cost=Cost(merge_seconds, evaluation_seconds, new_tokens, *counted),
        scalar=scalar,
        violation=violation,
        positions=tuple(position for position, *_ in answers) if ":" in portion else None,
    )


def read_outcome(db: sqlite3.Connection, digest: str, portion: str) -> tuple[NDArray[np.float64], float] | None:
    """Fitness ``(n,)`` and violation, without reading an answer; ``None`` where there is none or it failed."""
    query = "SELECT fitness, violation FROM evaluations WHERE recipe = ? AND portion = ? AND failure IS NULL"
    row = db.execute(query, (digest, portion)).fetchone()
    return None if row is None else (_array(json.loads(row[0])), float(row[1]))


def read_columns(db: sqlite3.Connection, portion: str, metric: str) -> dict[str, NDArray[np.float64]]:
    """See ``Study.columns``."""
    query = "SELECT id, recipe, metrics FROM evaluations WHERE portion = ? AND failure IS NULL ORDER BY id"
    found = {}
    for number, digest, metrics in db.execute(query, (portion,)).fetchall():
        names = json.loads(metrics)
        if metric in names:
            rows = db.execute("SELECT scores FROM answers WHERE evaluation = ? ORDER BY position", (number,))
            column = _matrix([scores for (scores,) in rows], len(names))[:, names.index(metric)]
            found[digest] = column[~np.isnan(column)]
    return found


def _numbers(values: Sequence[float]) -> str:
    """As JSON, which has no nan."""
    return json.dumps([None if math.isnan(value) else value for value in values])


def _matrix(rows: Sequence[str], n_metrics: int) -> NDArray[np.float64]:
    """Scores ``(n_rows, n_metrics)`` from their JSON; all at once, as there are many thousand times rows by the hundred."""
    return _array(json.loads(f"[{','.join(rows)}]")).reshape(len(rows), n_metrics)


def _array(values: Sequence[Any]) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64)  # which makes nan of None
