"""ROUGE of Japanese text against the paper's released scorer."""

import json
from pathlib import Path

import numpy as np
import pytest

from evo_merge.errors import ConfigError
from evo_merge.tasks import japanese
from evo_merge.tasks.rouge import ROUGE_TYPES, or_empty, release_mid, rouge_ja


def test_numbers_are_those_of_the_release(shared: Path) -> None:
    sets = json.loads((shared / "parity/scoring/rouge_ja_release.json").read_text(encoding="utf-8"))
    assert len(sets) == 5
    for found in sets:
        references, predictions = found["references"], found["predictions"]
        draws = np.random.RandomState(0)
        for suffix, texts in (("", predictions), ("_ja", or_empty(references, predictions))):
            scores = np.asarray([rouge_ja(*pair) for pair in zip(references, texts, strict=True)])
            released = [found["metrics"][name + suffix] for name in ROUGE_TYPES]
            # The same draws; wanted is 0.05 points, found are rounding errors.
            np.testing.assert_allclose(release_mid(scores, draws), released, atol=1e-6)


def test_drawing_leaves_numpys_global_state_alone() -> None:
    before = np.random.get_state()[1].copy()  # type: ignore[index]

    release_mid(np.ones((3, 3)), np.random.RandomState(0))

    assert (np.random.get_state()[1] == before).all()  # type: ignore[index]


def test_words_are_normalised() -> None:
    assert japanese.normalised("ｶﾀｶﾅ  と １２３😀") == "カタカナと123"
    assert japanese.words("これはペンです😀") == ["これ", "は", "ペン", "です"]
    assert rouge_ja("これはペンです", "これはペンです") == (1.0, 1.0, 1.0)
    assert rouge_ja("これはペンです", "") == (0.0, 0.0, 0.0)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(japanese.PACKAGES, "no_such_module", "no-such-package")

    with pytest.raises(ConfigError, match=r"task 'jsquad' .* needs no-such-package, which is not installed: pip install"):
        japanese.check_installed("jsquad")
