"""Scores of several tasks as the papers print them: a column a task, then their average, a row a model."""

import math
from collections.abc import Mapping, Sequence


def scoreboard(average: str, by_model: Mapping[str, Mapping[str, float]], columns: Sequence[str]) -> str:
    """A table in Markdown, scores times 100.

    Args:
        average: What the mean of the columns is called.
        by_model: Per model its score in each column, 0 to 1; the model's name may be empty.
        columns: In this order; of ``task/metric`` the task heads the column and the metric stands below it.
    """
    heads = ["model", *(column.partition("/")[0] for column in columns), average]
    kinds = ["", *(column.partition("/")[2] for column in columns), "mean"]
    rows = [heads, ["---"] + ["--:"] * (len(heads) - 1), kinds]
    for model, scores in by_model.items():
        values = [scores.get(column, math.nan) for column in columns]
        rows.append([model, *(f"{100 * value:.1f}" for value in (*values, sum(values) / len(values)))])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
