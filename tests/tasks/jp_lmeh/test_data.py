"""Rows, solved examples and bad input of the harness's tasks."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evo_merge.errors import ConfigError, DataError
from evo_merge.tasks.jp_lmeh.task import JpLmeh


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def sentence(i: int, label: int) -> dict[str, Any]:
    return {"id": f"j{i}", "sentence": f"文{i}。", "label": label}


@pytest.fixture
def jcola(tmp_path: Path) -> Callable[..., JpLmeh]:
    write(tmp_path / "jcola_test.jsonl", [sentence(i, i % 2) for i in range(10)])
    write(tmp_path / "jcola_shots.jsonl", [sentence(i, int(i > 22)) for i in range(20, 40)])

    def make(**changes: Any) -> JpLmeh:
        options: dict[str, Any] = {
            "name": "jcola",
            "benchmark": "jcola",
            "prompt_version": 0.3,
            "shots": 3,
            "data": str(tmp_path),
            "files": {},
            "hub": None,
            "limit": {},
            "allow_overlap": False,
        }
        return JpLmeh(**{**options, **changes})

    return make


def test_rows_are_shuffled_and_then_limited_as_the_harness_does(jcola: Callable[..., JpLmeh]) -> None:
    order = list(range(10))
    random.Random(42).shuffle(order)

    assert [each.id for each in jcola().examples("test")] == [f"j{i}" for i in order]
    assert [each.id for each in jcola(limit={"test": 4}).examples("test")] == [f"j{i}" for i in order[:4]]


def test_solved_examples_are_drawn_once_and_of_every_class(jcola: Callable[..., JpLmeh]) -> None:
    prompts = [str(jcola().prompt(each)) for each in jcola().examples("test")]

    for prompt in prompts:
        assert prompt.count("### 応答:\n はい") >= 1
        assert prompt.count("### 応答:\n いいえ") >= 1
        assert prompt.count("### 応答:") == 4
        assert prompt.endswith("### 応答:\n")
    assert len({prompt.rpartition("### 指示:")[0] for prompt in prompts}) > 1
    assert prompts == [str(jcola().prompt(each)) for each in jcola().examples("test")]


def test_draws_without_classes_are_the_generator_s_own(tmp_path: Path) -> None:
    write(tmp_path / "marc_ja_test.jsonl", [{"sentence": f"評{i}", "label": i % 2} for i in range(6)])
    write(tmp_path / "marc_ja_shots.jsonl", [{"sentence": f"例{i}", "label": i % 2} for i in range(30)])
    task = JpLmeh(
        name="m", benchmark="marc_ja", prompt_version="0.2", shots=3, data=str(tmp_path), files={}, hub=None, limit={},
        allow_overlap=False,
    )  # fmt: skip
    draws = random.Random(42)
    draws.shuffle(list(range(6)))
    expected = [f"製品レビュー:例{i}\n" for i in draws.sample(range(30), 3)]

    shown = str(task.prompt(task.examples("test")[0]))

    assert [shown.find(each) for each in expected] == sorted(shown.find(each) for each in expected)
    assert all(each in shown for each in expected)


def test_a_row_is_never_shown_itself(jcola: Callable[..., JpLmeh]) -> None:
    task = jcola(files={"shots": "jcola_test.jsonl"}, shots=8)

    for example in task.examples("test"):
        assert str(task.prompt(example)).count(example.question) == 1


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"sentence": "文"}],
            r"jcola_test.jsonl', line 1: a row needs in 'label' one of unacceptable, acceptable; .*sentence: '文'",
        ),
        ([{"sentence": "文", "label": 2}], r"line 1: a row needs in 'label' one of"),
        ([sentence(1, 1), {"label": 1}], r"line 2: a row needs a text in 'sentence'; this one has label: '1'"),
        ([sentence(1, 1), sentence(1, 0)], r"line 2: ids must be unique, but 'j1' is also the id of .*line 1"),
        ([], r"task.files.test: '.*jcola_test.jsonl' has no rows; at least one is needed"),
    ],
)
def test_a_row_that_breaks_the_schema_is_named_by_file_and_line(
    rows: list[dict[str, Any]], message: str, jcola: Callable[..., JpLmeh], tmp_path: Path
) -> None:
    write(tmp_path / "jcola_test.jsonl", rows)

    with pytest.raises(DataError, match=message):
        jcola().examples("test")


def test_data_that_cannot_be_had_can_be_given(jcola: Callable[..., JpLmeh], tmp_path: Path) -> None:
    (tmp_path / "jcola_shots.jsonl").unlink()
    with pytest.raises(
        DataError, match=r"'jcola' has no search examples; name a JSON Lines file: task.files.search=FILE, or a folder with"
    ):
        jcola().examples("search")
    with pytest.raises(DataError, match=r"'jcola' has no solved examples; .* task.data=DIR, or ask without them: task.shots=0"):
        jcola().examples("test")
    with pytest.raises(ConfigError, match=r"task.data: there is no folder 'nowhere'"):
        jcola(data="nowhere")
    hub = {"test": {"path": "nobody/JCoLA", "name": None, "split": "test", "revision": None}}
    with pytest.raises(DataError, match=r"'nobody/JCoLA' .* cannot be had from the hub .*task.files.test=FILE"):
        jcola(hub=hub, data=None).examples("test")


def test_too_few_solved_examples_and_shared_questions_are_refused(jcola: Callable[..., JpLmeh]) -> None:
    with pytest.raises(DataError, match="wants 21 solved examples, and its shots have 20"):
        jcola(shots=21).examples("test")
    with pytest.raises(DataError, match="splits must not share questions"):
        jcola(files={"search": "jcola_test.jsonl"}).examples("search")
    assert jcola(files={"search": "jcola_test.jsonl"}, allow_overlap=True).examples("search")


def test_an_unknown_benchmark_is_refused(jcola: Callable[..., JpLmeh]) -> None:
    with pytest.raises(ConfigError, match=r"task.benchmark: there is no 'jcolla'; did you mean 'jcola'"):
        jcola(benchmark="jcolla")


def test_jaqket_shows_five_passages_and_of_a_solved_example_the_one_with_the_answer(tmp_path: Path) -> None:
    texts = [f"文章{i}" for i in range(7)]
    row = {"qid": "Q", "question": "問?", "answers": {"text": ["答"]}}
    passages = {"title": [f"題{i}" for i in range(7)], "text": texts, "has_answer": [i == 3 for i in range(7)]}
    write(tmp_path / "jaqket_v2_test.jsonl", [{**row, "ctxs": passages}])
    without = {**passages, "has_answer": [False] * 7}
    write(
        tmp_path / "jaqket_v2_shots.jsonl", [{**row, "qid": "S", "question": "例?", "ctxs": passages}, {**row, "ctxs": without}]
    )
    task = JpLmeh(
        name="j", benchmark="jaqket_v2", prompt_version=0.1, shots=1, data=str(tmp_path), files={}, hub=None, limit={},
        allow_overlap=False,
    )  # fmt: skip

    shown = str(task.prompt(task.examples("test")[0]))

    listed = "\n".join(f"[題名]:題{i}\n[問題]:文章{i}" for i in range(5))
    assert shown.endswith(f"[題名]:題3\n[問題]:文章3\n[質問]:例?\n[答え]:答\n\n{listed}\n[質問]:問?\n[答え]:")
