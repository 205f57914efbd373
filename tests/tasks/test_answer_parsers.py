"""The numbers that the two parsers read."""

import json
from pathlib import Path

import pytest

from evo_merge.tasks.answer_parsers import PARSERS, release, strict


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("答えは12です。", 12),
        ("まず3個、次に4個", 4),
        ("答えは3.50です", 3.5),
        ("わかりません。", None),
        ("", None),
        # The quirks of the released scorer.
        ("1,000円", 0),
        ("答えは-5です", 5),
        ("15/1個", 1),
        ("３万５", 5),
        ("No.5", 0.5),
    ],
)
def test_release_reads_the_last_match_of_the_published_expression(text: str, number: float | None) -> None:
    assert release(text) == number


def test_release_reads_every_number_of_the_released_scorer(shared: Path) -> None:
    rows = [json.loads(line) for line in (shared / "parity/scoring/mgsm_ja_release.jsonl").open(encoding="utf-8")]

    assert len(rows) == 300
    assert [release(row["completion"]) for row in rows] == [row["number"] for row in rows]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("答えは12です。", 12),
        ("答えは３４．５です", 34.5),
        ("わかりません。", None),
        ("", None),
        ("全部で1,234,567円です", 1_234_567),
        ("１，０００円", 1000),
        ("1,2,3", 3),
        ("1,0000", 0),
        ("12,345.67", 12345.67),
        ("答えは5.", 5),
        ("答えは.5", 0.5),
        ("No.5", 5),
        ("えっと...5", 5),
        ("版1.2.3", 3),
        ("25㎡", 25),
        ("5²", 5),
    ],
)
def test_strict_reads_separators_widths_and_decimals(text: str, number: float | None) -> None:
    assert strict(text) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("3万", 30_000),
        ("3万5千円", 35_000),
        ("3万5000", 35_000),
        ("３．５万人", 35_000),
        ("1.13万", 11_300),
        ("1億2,345万6,789", 123_456_789),
        ("5千万", 50_000_000),
        ("3百万", 3_000_000),
        ("2兆", 2_000_000_000_000),
        ("1万円札が7枚", 7),
        ("千円です", None),
    ],
)
def test_strict_reads_units_after_a_digit(text: str, number: float | None) -> None:
    assert strict(text) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("答えは-5です", -5),
        ("答えは−5です", -5),
        ("答えは－５です", -5),
        ("気温はマイナス3度", -3),
        ("The answer is -5.", -5),
        ("7-12=-5", -5),
        ("残高は-$1,500", -1500),
        ("答えは:\n-5", -5),
        ("(-5)", -5),
        ("3-(-5", -5),
        ("+5", 5),
        ("-3万5千", -35_000),
    ],
)
def test_strict_reads_a_sign(text: str, number: float) -> None:
    assert strict(text) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12-5=7", 7),
        ("12-5", 5),
        ("12 - 5", 5),
        ("12 -5", 5),
        ("12個-5個", 5),
        ("12cm-5cm", 5),
        ("100ドル -5ドル", 5),
        ("3万-5千", 5000),
        ("(3+4)-5", 5),
        ("x-5", 5),
        ("2024-11-05", 5),
        ("- 5個", 5),
        ("10マイナス5", 5),
    ],
)
def test_a_hyphen_that_is_no_sign_takes_nothing_from_the_number(text: str, number: float) -> None:
    assert strict(text) == number


def test_a_number_beyond_floats_is_no_answer() -> None:
    assert strict("9" * 400) is None


def test_a_long_run_of_digits_is_read_in_no_time() -> None:
    assert strict("1," * 20_000 + "7") == 7
    assert strict("-" * 20_000 + "7") == -7


def test_parsers_are_found_by_name() -> None:
    assert dict(PARSERS) == {"release": release, "strict": strict}
