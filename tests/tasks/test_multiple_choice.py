"""Multiple choice: what is compared, what is right, which rows are refused, and whole runs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evo_merge.errors import ConfigError, DataError
from evo_merge.study import Study, opened
from evo_merge.tasks.base import Decoding, Example, Likelihoods, LogLikelihood
from evo_merge.tasks.multiple_choice import MultipleChoice

ROWS = (
    {"question": "{choices}?", "choices": ["a", "bbbb"], "answer": 1},
    {"question": "c", "choices": ["x", "y"], "answer": "x"},
)


def written(path: Path, rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def built(path: Path, **changes: Any) -> MultipleChoice:
    options: dict[str, Any] = {
        "name": "mc",
        "files": {"search": str(path)},
        "hub": None,
        "columns": {"id": "id", "question": "question", "choices": "choices", "answer": "answer"},
        "limit": {},
        "prompt": "Q {question}\n{choices}\nA:",
        "choice_line": "{letter}. {choice}",
        "continuation": " {choice}",
        "allow_overlap": False,
    }
    return MultipleChoice(**{**options, **changes})


def found(*totals: float) -> tuple[LogLikelihood, ...]:
    return tuple(LogLikelihood(total, is_greedy=False, n_tokens=1) for total in totals)


def test_each_choice_is_compared_after_the_prompt(tmp_path: Path) -> None:
    task = built(written(tmp_path / "a.jsonl", ROWS))
    first, second = task.examples("search")

    context = "Q {choices}?\nA. a\nB. bbbb\nA:"
    assert task.answering_of(first) == Likelihoods(((context, " a"), (context, " bbbb")), ("a", "bbbb"))
    assert (first.answer, second.answer) == ("bbbb", "x")
    by_letter = built(tmp_path / "a.jsonl", continuation=" {letter}").answering_of(first)
    assert isinstance(by_letter, Likelihoods)
    assert [continuation for _, continuation in by_letter.pairs] == [" A", " B"]


def test_accuracy_is_by_likelihood_and_the_norm_by_likelihood_a_character(tmp_path: Path) -> None:
    task = built(written(tmp_path / "a.jsonl", ROWS))
    first, second = task.examples("search")

    assert task.score(first, found(-2.0, -4.0)) == (0.0, 1.0)
    assert task.score(first, found(-2.0, -1.0)) == (1.0, 1.0)
    assert task.score(first, found(-1.0, -9.0)) == (0.0, 0.0)
    assert task.score(second, found(-3.0, -3.0)) == (1.0, 1.0)  # the first of equals


def test_a_question_from_outside_is_answered_freely(tmp_path: Path) -> None:
    task = built(written(tmp_path / "a.jsonl", ROWS))

    assert isinstance(task.answering_of(Example("question", "何?", "")), Decoding)
    assert task.prompt(Example("question", "何?", "")) == "Q 何?\n\nA:"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"choices": ["a"], "answer": 0}, "'choices' must be a list of two texts or more"),
        ({"choices": ["a", "b"], "answer": 2}, r"'answer' must be one of the 2 choices, or its place from 0 to 1, got 2"),
        ({"choices": ["a", "b"], "answer": "c"}, "got 'c'"),
        ({"choices": ["a", "a"], "answer": "a"}, "got 'a'"),
        ({"choices": ["{question}", "a"], "answer": 0}, "cannot hold"),
    ],
)
def test_rows_that_cannot_be_used_are_refused_by_their_line(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    task = built(written(tmp_path / "a.jsonl", [{"question": "q", **row}]))
    with pytest.raises(DataError, match=f"line 1: .*{message}"):
        task.examples("search")


@pytest.mark.parametrize("option", ["prompt", "choice_line", "continuation"])
def test_a_template_without_its_place_is_refused(tmp_path: Path, option: str) -> None:
    with pytest.raises(ConfigError, match=f"task.{option}"):
        built(tmp_path / "a.jsonl", **{option: "nothing"})


def test_a_search_over_a_mixed_task_completes_and_is_asked_and_scored(command: Callable[..., Any], tmp_path: Path) -> None:
    names = "りんご", "みかん", "えんぴつ", "本", "りんごとみかん"
    for split in ("search", "test"):
        rows = [{"question": f"{split} {i} {n}が", "choices": ["3個", "4個", "10個"], "answer": 0} for i, n in enumerate(names)]
        written(tmp_path / f"{split}.jsonl", rows)
    task = (
        "task=several",
        "+task@task.parts.choice=multiple_choice",
        "+task@task.parts.ja=tiny_ja_math",
        *(f"task.parts.choice.files.{split}={split}.jsonl" for split in ("search", "test")),
        *(f"task.parts.ja.limit.{split}=4" for split in ("search", "test")),
        "task.parts.ja.limit.validation=0",
    )
    small = ("optimizer=random", "optimizer.population_size=2", "budget.generations=1", "tracker=none")
    ended = command(*task, *small, "objectives=[choice/accuracy,ja/accuracy,brevity]", "hydra.run.dir=run")
    assert (ended.code, ended.err) == (0, "")

    with opened(Study.read(tmp_path / "run")) as study:
        evaluation = study.evaluation(study.candidates()[0].recipe, "search")
    assert evaluation is not None
    assert set(evaluation.completions[:5]) <= {"3個", "4個", "10個"}
    assert len(evaluation.column("choice/accuracy")) == 5
    assert len(evaluation.column("ja/accuracy")) == 4
    assert len(evaluation.column("brevity")) == 4  # of what was written only
    assert command("run", "何個ですか。", verb="ask").code == 0
    assert command("resume=run", "budget.generations=2").code == 0  # its examples are found to be those it began with
    scored = command("run=run", *task, verb="evaluate")
    assert scored.code == 0
    assert "choice/accuracy" in scored.out
