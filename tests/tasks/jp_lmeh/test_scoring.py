"""Scores of the harness's tasks: a model that answers from the key, one that is always wrong, and numbers from elsewhere."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evo_merge.scoreboard import scoreboard
from evo_merge.tasks.base import Likelihoods, LogLikelihood
from evo_merge.tasks.jp_lmeh.scoring import Classes, last_number, macro_f1, matthews
from evo_merge.tasks.jp_lmeh.task import JpLmeh

PASSAGE = {"title": ["山"], "text": ["高い山。"], "has_answer": [True]}
# Rows as the hub's datasets have them, classes in unequal numbers.
ROWS: dict[str, list[dict[str, Any]]] = {
    "jcommonsenseqa": [{"question": f"問{i}", **{f"choice{j}": f"答{j}" for j in range(5)}, "label": i} for i in range(5)],
    "jnli": [{"sentence1": f"前{i}", "sentence2": "後", "label": label} for i, label in enumerate((0, 1, 1, 2, 2, 2))],
    "marc_ja": [{"sentence": f"文{i}", "label": label} for i, label in enumerate((0, 0, 0, 1))],
    "jsquad": [
        {"title": "山", "context": "山 [SEP] 高い山。", "question": f"問{i}", "answers": {"text": ["高い山", "山"]}}
        for i in range(3)
    ],
    "jaqket_v2": [{"question": f"問{i}", "answers": {"text": ["富士山"]}, "ctxs": PASSAGE} for i in range(3)],
    "jaqket_closed_book": [{"question": f"問{i}", "answer": "富士山"} for i in range(3)],
    "xlsum_ja": [{"text": f"記事{i}", "summary": "山が高いと富士山で話題になった"} for i in range(3)],
    "xwinograd_ja": [{"sentence1": f"甲{i}", "sentence2": f"乙{i}", "answer": str(1 + i % 2)} for i in range(4)],
    "mgsm": [{"question": f"問{i}", "answer": f"答えは{i}です。", "answer_number": 1200 + i} for i in range(3)],
    "jcola": [{"sentence": f"文{i}", "label": label} for i, label in enumerate((1, 1, 1, 0))],
}


@pytest.fixture
def built(tmp_path: Path) -> Callable[..., JpLmeh]:
    def make(key: str, **changes: Any) -> JpLmeh:
        file = tmp_path / f"{key}_test.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in ROWS[key]), encoding="utf-8")
        options: dict[str, Any] = {
            "name": key,
            "benchmark": key,
            "prompt_version": "1.0" if key == "xwinograd_ja" else ("closed-0.3" if "closed" in key else "0.3"),
            "shots": 0,
            "data": str(tmp_path),
            "files": {},
            "hub": None,
            "limit": {},
            "allow_overlap": False,
        }
        return JpLmeh(**{**options, **changes})

    return make


def answered(task: JpLmeh, example: Any, *, rightly: bool) -> Any:
    """What a model says that knows the key: the right choice or the reference, or always something else."""
    way = task.answering_of(example)
    if isinstance(way, Likelihoods):
        chosen = example.right if rightly else (example.right + 1) % len(way.pairs)
        totals = [-1.0 if pair == chosen else -50.0 for pair in range(len(way.pairs))]
        return tuple(LogLikelihood(total, is_greedy=False, n_tokens=1) for total in totals)
    return example.references[0] if rightly else "xyz"


@pytest.mark.parametrize("key", sorted(ROWS))
def test_the_answer_key_has_the_best_value_of_every_metric_and_its_opposite_the_worst(
    key: str, built: Callable[..., JpLmeh]
) -> None:
    task = built(key)
    examples = task.examples("test")
    for rightly, expected in ((True, 1.0), (False, 0.0)):
        scores = [task.score(example, answered(task, example, rightly=rightly)) for example in examples]
        means = [sum(column) / len(column) for column in zip(*scores, strict=True)]
        assert means == pytest.approx([expected] * len(task.metrics)), task.metrics


def test_balanced_accuracy_is_the_mean_of_weighted_scores(built: Callable[..., JpLmeh]) -> None:
    task = built("jnli")
    examples = task.examples("test")
    contradiction = tuple(LogLikelihood(total, is_greedy=False, n_tokens=1) for total in (-9.0, -1.0, -9.0))

    scores = [task.score(example, contradiction) for example in examples]

    # One class of three is always right; two of the six rows are of it.
    assert sum(score[0] for score in scores) / 6 == pytest.approx(1 / 3)
    assert sum(score[1] for score in scores) / 6 == pytest.approx(2 / 6)


def test_what_is_no_mean_is_made_of_the_kept_answers(built: Callable[..., JpLmeh]) -> None:
    task = built("jcola")
    examples = task.examples("test")
    key = [example.answer for example in examples]

    assert task.corpus_metrics(examples, key) == {"mcc": 1.0, "macro_f1": 1.0}
    assert task.corpus_metrics(examples, ["acceptable"] * 4)["mcc"] == 0.0
    opposite = ["acceptable" if each == "unacceptable" else "unacceptable" for each in key]
    assert task.corpus_metrics(examples, opposite) == {"mcc": -1.0, "macro_f1": 0.0}
    assert built("mgsm").corpus_metrics([], []) == {}


def test_correlation_and_macro_f1_are_those_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    gold, said = [0, 0, 1, 2, 2, 2, 1, 0], [0, 1, 1, 2, 0, 2, 2, 0]
    pairs = list(zip(gold, said, strict=True))

    assert matthews(pairs) == pytest.approx(metrics.matthews_corrcoef(gold, said))
    assert macro_f1(pairs) == pytest.approx(metrics.f1_score(gold, said, average="macro"))


def test_equally_probable_sentences_are_wrong(built: Callable[..., JpLmeh]) -> None:
    task = built("xwinograd_ja")
    equal = (LogLikelihood(-3.0, is_greedy=False, n_tokens=2),) * 2

    assert {task.score(example, equal) for example in task.examples("test")} == {(0.0,)}
    way = task.answering_of(task.examples("test")[0])
    assert isinstance(way, Likelihoods)
    assert {context for context, _ in way.pairs} == {""}


def test_a_span_is_compared_without_emoji_width_and_spaces(built: Callable[..., JpLmeh]) -> None:
    task = built("jsquad")
    example = task.examples("test")[0]

    assert task.score(example, " 高い山😀") == (1.0, 1.0)
    exact, f1 = task.score(example, "とても高い山")
    assert exact == 0.0
    assert 0.5 < f1 < 1.0


@pytest.mark.parametrize(
    ("text", "number"),
    [("5+6=11。答えは1,200です。", 1200.0), ("-5.", -5.0), ("1.5", None), ("１２", None), ("なし", None), ("1.2.3", None)],
)
def test_the_last_whole_number_counts(text: str, number: float | None) -> None:
    assert last_number(text) == number


def test_a_class_without_rows_does_not_count(built: Callable[..., JpLmeh]) -> None:
    task = built("jcola", limit={"test": 1})

    assert [example.weight for example in task.examples("test")] == [1.0]  # type: ignore[attr-defined]
    assert Classes.metrics[0] == task.objectives[0]


def test_the_average_is_that_of_the_paper_s_table() -> None:
    # Akiba et al. 2024, Table 2: shisa-gamma-7b-v1, and the average that is printed beside it.
    columns = ("a", "b", "c", "d", "e", "f", "g", "h", "i")
    scores = (0.912, 0.721, 0.946, 0.739, 0.680, 0.259, 0.805, 0.296, 0.587)

    table = scoreboard("average of 9", {"shisa": dict(zip(columns, scores, strict=True))}, columns)

    assert table.splitlines()[-1].endswith("| 58.7 | 66.1 |")
    assert "average of 9" in table.splitlines()[0]
