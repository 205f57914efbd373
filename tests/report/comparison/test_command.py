"""``python -m evo_merge.report`` of several runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from evo_merge.report.__main__ import main
from swept_runs import write_swept

pytestmark = pytest.mark.usefixtures("quick_commits")


def test_the_command_writes_the_comparison_into_the_sweeps_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = tmp_path / "sweep"
    for number, name in enumerate(("cmaes", "random")):
        write_swept(sweep / str(number), name)
    assert main([str(sweep), "target=0.25"]) == 0

    out = capsys.readouterr().out
    assert str(sweep / "comparison.html") in out
    assert str(sweep / "comparison.csv") in out
    assert "have the same mean test score, which no rank test could examine." in out
    page = (sweep / "comparison.html").read_text(encoding="utf-8")
    assert 'href="0/report.html"' in page
    assert "25.0\N{NO-BREAK SPACE}%, as asked" in page
    first = (sweep / "comparison.html").read_bytes()
    assert main([str(sweep / "0"), str(sweep / "1"), "target=0.25", f"out={tmp_path / 'elsewhere'}"]) == 0
    assert (tmp_path / "elsewhere" / "comparison.csv").is_file()
    assert main([str(sweep), "target=0.25"]) == 0
    assert (sweep / "comparison.html").read_bytes() == first  # the same runs give the same page


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["target=high"], "target must be a search score, such as target=0.8, got 'high'"),
        (["target=nan"], "target must be a search score, such as target=0.8, got 'nan'"),
        (["target=inf"], "target must be a search score, such as target=0.8, got 'inf'"),
        (["tarket=1"], "there is no option 'tarket=1'"),
        (["../b"], "have other tasks"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    for number in range(2):
        write_swept(tmp_path / "sweep" / str(number), seed=number)
    write_swept(tmp_path / "b", task="another")
    monkeypatch.chdir(tmp_path / "sweep")
    assert main(["0", "1", *words]) == 2

    ended = capsys.readouterr()
    assert said in ended.err
    assert len(ended.err.splitlines()) == 1
    assert not list(tmp_path.rglob("*.html"))


def test_an_option_of_comparing_with_a_single_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(write_swept(tmp_path / "run")), "target=0.5"]) == 2
    assert "target= is about comparing runs" in capsys.readouterr().err


def test_comparing_loads_no_torch(tmp_path: Path) -> None:
    for number, name in enumerate(("cmaes", "random")):
        write_swept(tmp_path / str(number), name)
    code = (
        "import sys\n"
        "from evo_merge.report.__main__ import main\n"
        f"assert main([{str(tmp_path)!r}]) == 0\n"
        "print('loaded', *{'torch', 'transformers', 'huggingface_hub'} & set(sys.modules))\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], check=True, timeout=120, capture_output=True, text=True)
    assert ended.stdout.splitlines()[-1] == "loaded"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_goes_away_is_no_error(tmp_path: Path, unbuffered: str) -> None:
    for number, name in enumerate(("cmaes", "random")):
        write_swept(tmp_path / str(number), name)
    reading, writing = os.pipe()
    os.close(reading)  # as head does when it has enough
    words = [sys.executable, "-m", "evo_merge.report", str(tmp_path)]
    try:
        ended = subprocess.run(
            words,
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            check=False,
        )
    finally:
        os.close(writing)

    assert (ended.returncode, ended.stderr) == (141, "")  # as of all commands
