"""Several of the harness's tasks together: what is printed of all answers at once."""

import json
from pathlib import Path
from typing import Any

import pytest

from evo_merge.evaluate import _print_of_the_whole
from evo_merge.tasks.base import Likelihoods, LogLikelihood
from evo_merge.tasks.jp_lmeh.suite import suite
from evo_merge.tasks.jp_lmeh.task import JpLmeh


def part(key: str, version: str, rows: list[dict[str, Any]], folder: Path) -> JpLmeh:
    (folder / f"{key}_test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return JpLmeh(
        name=key, benchmark=key, prompt_version=version, shots=0, data=str(folder), files={}, hub=None, limit={},
        allow_overlap=False,
    )  # fmt: skip


def test_the_table_has_a_column_a_task_and_their_average_and_correlations_stand_beside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sentences = [{"sentence": f"s{i}", "label": int(i < 3)} for i in range(4)]
    pairs = [{"sentence1": f"a{i}", "sentence2": f"b{i}", "answer": 2} for i in range(2)]
    task = suite(
        parts={"jcola": part("jcola", "0.3", sentences, tmp_path), "x": part("xwinograd_ja", "1.0", pairs, tmp_path)},
        data=None,
        limit={},
        average="average of 2",
        allow_overlap=False,
    )
    rows = []
    for example in task.examples("test"):
        way = task.answering_of(example)
        assert isinstance(way, Likelihoods)
        # The second of two: always "acceptable", which three of four are, and always the right sentence.
        answer = tuple(LogLikelihood(total, is_greedy=False, n_tokens=1) for total in (-2.0, -1.0))
        scores = zip(task.metrics, task.score(example, answer), strict=True)
        rows.append({"completion": way.label(1), **{name: value for name, value in scores if value == value}})

    _print_of_the_whole(task, "test", {"sheep": rows})

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "several test, sheep, of all answers together: jcola/mcc 0.000, jcola/macro_f1 0.429"
    assert lines[1] == "| model | jcola | x | average of 2 |"
    assert lines[3] == "|  | balanced_accuracy | accuracy | mean |"
    assert lines[4] == "| sheep | 50.0 | 100.0 | 75.0 |"
