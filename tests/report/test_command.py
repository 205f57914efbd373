"""``python -m evo_merge.report``: what it writes, what it prints, and its one sentence where it cannot."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from evo_merge.report.__main__ import main

MakeRun = Callable[..., Path]


def test_it_writes_every_file_and_leaves_no_other(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run()
    before = {path for path in folder.rglob("*") if path.is_file()}
    assert main([str(folder)]) == 0
    after = {path for path in folder.rglob("*") if path.is_file()}
    named = {
        "summary.json",
        "report.html",
        *(f"figures/{n}.svg" for n in ("scores", "fitness", "genes", "answer_sheet")),
    }
    assert {str(path.relative_to(folder)) for path in after - before} == named
    assert len(capsys.readouterr().out.splitlines()) == 6
    assert json.loads((folder / "summary.json").read_text(encoding="utf-8"))["task"] == "tiny_ja_math"


def test_the_same_run_gives_the_same_files(make_run: MakeRun) -> None:
    folder = make_run(is_graded=True)
    names = ("summary.json", "report.html", "figures/fitness.svg")
    main([str(folder)])
    first = [(folder / name).read_bytes() for name in names]
    main([str(folder)])
    assert [(folder / name).read_bytes() for name in names] == first


def test_several_runs_are_compared(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(make_run("one")), str(make_run("two", is_finished=False))]) == 0
    header, one, two = capsys.readouterr().out.splitlines()[-3:]
    assert header.split() == [
        "run",
        "task",
        "merge",
        "optimizer",
        "seed",
        "test",
        "score",
        "95",
        "%",
        "interval",
        "evaluations",
        "time",
    ]
    assert "dare_ties" in one
    assert "18" in one
    assert "not yet" in two


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "name one or more run folders"),
        (["nowhere"], "'nowhere' holds no run"),
        (["--fast"], "there is no option '--fast'"),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert sentence in said.err
    assert len(said.err.splitlines()) == 1


def test_a_file_that_is_no_study_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "study.sqlite").write_text("not a database, but long enough to look at" * 10, encoding="utf-8")
    assert main([str(tmp_path)]) == 2
    assert "is not the record of a run" in capsys.readouterr().err


def test_the_command_loads_no_torch(make_run: MakeRun) -> None:
    code = (
        "import sys, runpy\n"
        f"sys.argv = ['report', {str(make_run())!r}]\n"
        "try: runpy.run_module('evo_merge.report', run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        "print('loaded', *{'torch', 'transformers', 'lightning', 'huggingface_hub'} & set(sys.modules))\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], check=True, timeout=120, capture_output=True, text=True)
    assert ended.stdout.splitlines()[-1] == "loaded"


@pytest.mark.parametrize("kind", ["dfs", "batches", "hybrid"])
def test_a_run_through_layers_has_a_picture_of_its_path(make_path_run: Callable[[str], Path], kind: str) -> None:
    folder = make_path_run(kind)
    assert main([str(folder)]) == 0
    names = {path.stem for path in (folder / "figures").iterdir()}
    assert names == {"scores", "path", "fitness", "genes", "answer_sheet"}
