"""Examples from files and from the hub, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from evo_merge.errors import DataError
from evo_merge.tasks.base import Example
from evo_merge.tasks.examples import (
    Columns,
    HubSource,
    normalised,
    read_completions,
    read_file,
    read_hub,
    refuse_overlap,
)

COLUMNS = Columns(id="id", question="question", answer="answer")

Writer = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    """Writes lines, or rows as JSON, to a file and gives its path."""

    def write_lines(*lines: object) -> str:
        file = tmp_path / "rows.jsonl"
        text = "".join((line if isinstance(line, str) else json.dumps(line, ensure_ascii=False)) + "\n" for line in lines)
        file.write_text(text, encoding="utf-8")
        return str(file)

    return write_lines


def test_rows_become_examples(write: Writer) -> None:
    path = write({"id": "a", "question": "1+1は？", "answer": "2"}, {"id": 7, "question": "2+2は？", "answer": 4})

    assert read_file(path, "search", COLUMNS) == [Example("a", "1+1は？", "2"), Example("7", "2+2は？", "4")]


def test_columns_are_named(write: Writer) -> None:
    path = write({"key": "a", "q": "1+1は？", "answer_number": 2.5, "answer": "wrong column"})

    assert read_file(path, "search", Columns("key", "q", "answer_number")) == [Example("a", "1+1は？", "2.5")]


def test_rows_without_an_id_are_named_after_split_and_position(write: Writer) -> None:
    path = write({"question": "p", "answer": 1}, {"question": "q", "answer": 2})

    assert [example.id for example in read_file(path, "test", COLUMNS)] == ["test-0000", "test-0001"]


def test_a_limit_takes_the_first_rows_and_reads_no_more(write: Writer) -> None:
    path = write({"question": "p", "answer": 1}, {"question": "q", "answer": 2}, "not JSON")

    assert [example.question for example in read_file(path, "test", COLUMNS, limit=2)] == ["p", "q"]
    assert read_file(path, "test", COLUMNS, limit=0) == []


def test_blank_lines_and_a_byte_order_mark_are_no_rows(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('\ufeff\n{"question": "p\u2028q", "answer": 1}\n\n', encoding="utf-8")

    assert [example.question for example in read_file(str(file), "test", COLUMNS)] == ["p\u2028q"]


def test_a_large_number_is_written_out(write: Writer) -> None:
    path = write({"question": "p", "answer": 1e22})

    assert read_file(path, "test", COLUMNS)[0].answer == "1" + "0" * 22


def test_the_home_folder_is_understood(write: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write({"question": "p", "answer": 1})
    monkeypatch.setenv("HOME", str(tmp_path))

    assert len(read_file("~/rows.jsonl", "test", COLUMNS)) == 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "b", "question": "q"}, r"line 2: a row needs an answer in 'answer', this one has id, question"),
        ({"question": "q", "answer": None}, r"line 2: a row needs an answer in 'answer'"),
        ({"question": "q", "answer": " "}, r"line 2: a row needs an answer in 'answer'"),
        ({"question": "", "answer": 2}, r"line 2: a row needs a question in 'question', this one has answer"),
        ({"id": "a", "question": "q", "answer": 2}, r"line 2: ids must be unique, but 'a' .*rows\.jsonl', line 1"),
        ({"question": "q", "answer": [2]}, r"line 2: 'answer' must be a text or a number, got list"),
        ({"question": "q", "answer": True}, r"line 2: 'answer' must be a text or a number, got bool"),
        ({}, r"line 2: a row needs a question in 'question', this one is empty"),
        (
            "not JSON",
            r"line 2: every line must be one JSON object, but this is not JSON \(Expecting value at character 1\)",
        ),
        ('{"answer": ' + "9" * 5000 + "}", r"line 2: every line must be one JSON object that Python can read"),
        ("[1, 2]", r"line 2: every line must be one JSON object, got list"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(write: Writer, row: object, message: str) -> None:
    path = write({"id": "a", "question": "p", "answer": 1}, row)

    with pytest.raises(DataError, match=rf"rows\.jsonl', {message}") as caught:
        read_file(path, "search", COLUMNS)
    assert "\n" not in str(caught.value)


def test_an_answer_that_fails_the_check_is_named_by_file_and_line(write: Writer) -> None:
    path = write({"question": "p", "answer": "1"}, {"question": "q", "answer": "two"})

    with pytest.raises(DataError, match=r"rows\.jsonl', line 2: 'two' is no digit$"):
        read_file(path, "search", COLUMNS, check=lambda answer: None if answer.isdigit() else f"{answer!r} is no digit")


def test_an_empty_file_is_refused(write: Writer) -> None:
    with pytest.raises(DataError, match=r"task\.files\.search: file '.*rows\.jsonl' has no rows"):
        read_file(write(), "search", COLUMNS)


def test_a_missing_file_is_named_with_its_option(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"task\.files\.test: there is no file '.*nowhere\.jsonl' \(looked from /"):
        read_file(str(tmp_path / "nowhere.jsonl"), "test", COLUMNS)
    with pytest.raises(DataError, match=r"task\.files\.test: there is no file"):
        read_file(str(tmp_path), "test", COLUMNS)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b"\xff\xfe\x00\x01")

    with pytest.raises(DataError, match=r"task\.files\.test: file '.*rows\.jsonl' cannot be read as UTF-8"):
        read_file(str(file), "test", COLUMNS)


def test_a_hub_out_of_reach_says_how_to_name_a_local_file() -> None:
    source = HubSource("some-org/some-dataset", "ja", "test", None)
    with pytest.raises(DataError, match=r"'some-org/some-dataset'.* from the hub .*task\.files\.search=FILE") as caught:
        read_hub(source, "search", COLUMNS)
    assert "\n" not in str(caught.value)


def test_a_dataset_is_read_like_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A folder stands for a repository of the hub: `datasets` loads both alike.
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "dataset"
    folder.mkdir()
    rows = [{"question": f"{n}+1は？", "answer_number": n + 1} for n in range(3)]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    source = HubSource(str(folder), None, "test", None)

    examples = read_hub(source, "test", Columns("id", "question", "answer_number"), limit=2)

    assert examples == [Example("test-0000", "0+1は？", "1"), Example("test-0001", "1+1は？", "2")]
    with pytest.raises(DataError, match=r"dataset test', row 0: a row needs an answer in 'answer'"):
        read_hub(source, "test", COLUMNS)


def test_saved_completions_come_with_their_examples(write: Writer) -> None:
    path = write(
        {"id": 0, "problem": "x", "answer": 23, "completion": "答えは23"},
        {"question": "q", "answer": "7", "completion": ""},
    )

    assert read_completions(path, COLUMNS) == [(Example("0", "", "23"), "答えは23"), (Example("0001", "q", "7"), "")]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"answer": 23}, r"line 1: a row of saved completions needs the text field 'completion', this one has answer"),
        ({"completion": "23"}, r"line 1: a row needs an answer in 'answer', this one has completion"),
    ],
)
def test_a_bad_row_of_completions_is_named_by_file_and_line(write: Writer, row: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_completions(write(row), COLUMNS)


def test_splits_that_share_a_question_are_refused() -> None:
    search = [Example("s0", "太郎は3個持っています。", "3"), Example("s1", "Another one", "4")]
    test = [
        Example("t0", "New", "1"),
        Example("t1", "太郎は ３個 持っています", "3"),
        Example("t2", "another one!", "4"),
    ]

    with pytest.raises(DataError, match=r"2 of the 3 of 'test' are also in 'search' \(the first: 't1' is 's0'\)") as caught:
        refuse_overlap({"search": search, "test": test})
    assert "task.allow_overlap=true" in str(caught.value)


def test_splits_without_a_common_question_pass() -> None:
    twice = [Example("s0", "12-5は？", "7"), Example("s1", "12-5は？", "7")]

    refuse_overlap({"search": twice, "validation": [], "test": [Example("t0", "125は？", "125")]})
    with pytest.raises(DataError, match="'t0' is 's0'"):
        refuse_overlap({"search": twice, "validation": [], "test": [Example("t0", "12-5は", "125")]})


@pytest.mark.parametrize(
    ("one", "another"),
    [
        ("ＡＢＣ　１２", "abc12"),
        ("りんご、みかん。", "りんごみかん"),
        ("1,000円", "1000円"),
        ("3 − 5", "3-5"),
        ("It's.", "its"),
    ],
)
def test_what_makes_no_difference_is_folded(one: str, another: str) -> None:
    assert normalised(one) == normalised(another)


@pytest.mark.parametrize(
    ("one", "another"),
    [
        ("12-5", "125"),
        ("3.5", "35"),
        ("-5", "5"),
        ("3+5", "35"),
        ("1,2,3", "12,3"),
        ("50%", "50"),
        ("?", "!"),
        ("6/2", "62"),
    ],
)
def test_what_makes_a_difference_is_kept(one: str, another: str) -> None:
    assert normalised(one) != normalised(another)
