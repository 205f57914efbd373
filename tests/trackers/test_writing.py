"""What a build says while it writes."""

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from evo_merge.trackers.writing import Writing

RECIPE = (
    "{kind: parameter_space, sources: ['builtin:tiny_ja_math/ja', 'builtin:tiny_ja_math/math_a'], method: {name: linear}, "
    "parameters: [{tensors: '*', weight: [0.5, 0.5]}]}"
)


def test_without_a_terminal_there_is_a_line_every_ten_seconds() -> None:
    seconds = iter([0.0, 3.0, 9.9, 10.0, 15.0, 21.0, 40.0])
    file = io.StringIO()
    with Writing(Console(file=file, force_terminal=False), lambda: next(seconds)) as writing:
        for gigabytes in (0.0, 1.0, 2.0, 3.04, 4.0, 9.96, 14.5):
            writing(int(gigabytes * 1e9), 14_500_000_000)
    assert file.getvalue().splitlines() == ["3.0 of 14.5 GB", "10.0 of 14.5 GB"]  # what is whole is told by others


def test_on_a_terminal_there_is_a_bar_of_bytes() -> None:
    file = io.StringIO()
    with Writing(Console(file=file, force_terminal=True, width=120)) as writing:
        writing(5_000_000_000, 14_500_000_000)
        writing(6_100_000_000, 14_500_000_000)
    assert "6.1/14.5 GB" in file.getvalue()


def test_a_build_draws_it_to_the_end_on_a_terminal_and_nothing_elsewhere(
    command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    quick = command("recipe=recipe.yaml", "out=plain", verb="build")
    assert quick.code == 0
    assert [line.split(" [")[0] for line in quick.out.splitlines() if "mergekit" not in line] == ["wrote plain"]
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal, for rich
    monkeypatch.setenv("COLUMNS", "120")
    drawn = command("recipe=recipe.yaml", "out=drawn", verb="build")
    assert drawn.code == 0
    assert re.search(r"writing.*\D(\d+\.\d)/\1 [kM]B", drawn.out, re.DOTALL)
    (logged,) = [line for line in drawn.out.splitlines() if "no mergekit.yaml is written" in line]
    assert "writing" not in logged
