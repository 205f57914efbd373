"""Texts for a calibration pass, as users have them."""

import json
from pathlib import Path
from typing import Any

import pytest

from evo_merge.calibration.texts import joined, rows_of_file
from evo_merge.errors import ConfigError, DataError
from evo_merge.models.pool import Pool


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return Pool(base=None, sources=["builtin:tiny_ja_math/ja"]).tokenizer


def written(folder: Path, *rows: object) -> str:
    file = folder / "texts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(file)


def test_a_text_and_a_prompt_with_its_completion_are_read_alike(tmp_path: Path, tokenizer: Any) -> None:
    path = written(tmp_path, {"text": "2+6=8です。"}, {"prompt": "2+6=", "completion": "8です。"})
    first, second = rows_of_file(path, tokenizer, None, 512)
    assert first == second == list(tokenizer("2+6=8です。")["input_ids"])


def test_the_first_texts_are_taken_and_cut(tmp_path: Path, tokenizer: Any) -> None:
    path = written(tmp_path, *({"text": "2+6=8です。"} for _ in range(5)))
    rows = rows_of_file(path, tokenizer, 3, 2)
    assert [len(row) for row in rows] == [2, 2, 2]


def test_messages_need_a_chat_template(tmp_path: Path, tokenizer: Any) -> None:
    path = written(tmp_path, {"messages": [{"role": "user", "content": "2+6="}]})
    with pytest.raises(ConfigError, match="has no chat template"):
        rows_of_file(path, tokenizer, None, 512)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([{"txt": "a"}], "line 1: a line must have 'text', 'prompt' and 'completion', or 'messages', got txt"),
        ([{"text": 3}], "line 1: a line must have 'text'"),
        ([], "holds no text"),
        ([[1]], "every line must be one JSON object, got list"),
    ],
)
def test_files_without_texts_are_refused(tmp_path: Path, tokenizer: Any, rows: list[object], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        rows_of_file(written(tmp_path, *rows), tokenizer, None, 512)


def test_a_prompt_is_followed_by_what_was_answered(tokenizer: Any) -> None:
    prompt = list(tokenizer("2+6=")["input_ids"])
    (row,) = joined([prompt], ["8です。"], tokenizer, 512)
    assert row == list(tokenizer("2+6=8です。")["input_ids"])
