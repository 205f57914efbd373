"""``python -m evo_merge.check``: what it prints of a pool, and what it refuses."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from evo_merge.mergeability import Mergeability
from evo_merge.study import Study, opened


def test_the_embedded_family_can_be_merged(command) -> None:
    ended = command("models=tiny_ja_math", verb="check")
    assert (ended.code, ended.err) == (0, "")
    blocks = ended.out.split("\n\n")
    assert blocks[0] == "base builtin:tiny_ja_math/base, 181,824 weights each, norm 39.16"
    assert [line.split()[:2] for line in blocks[1].splitlines()[1:]] == [["ja", "yes"], ["math_a", "yes"], ["math_b", "yes"]]
    assert [line.split("  ")[0] for line in blocks[2].splitlines()[1:]] == [
        "ja, math_a",
        "ja, math_b",
        "math_a, math_b",
        "mean",
    ]
    assert blocks[3].startswith("- Nothing here speaks against merging.")


def test_a_pool_without_a_base_is_compared_by_its_weights(command) -> None:
    ended = command("models.base=null", verb="check")
    assert ended.code == 0
    assert ended.out.startswith("no base, 181,824 weights each")
    assert "- Without a base no task vectors are defined" in ended.out


def test_what_speaks_against_a_pool_is_marked_and_is_no_error(command, pico: Callable[..., Path]) -> None:
    words = ["models=custom", f"models.base={pico('base', 1)}", f"models.sources=[{pico('stranger', 2)}]"]
    ended = command(*words, verb="check")
    assert ended.code == 0
    assert "\n! 'stranger' does not descend from the base (relative norm 0." in ended.out


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["models=tiny_ja"], "did you mean 'tiny_ja_math'?"),
        (["models=custom"], "models.sources is not set"),
        (["models.use=[fr]"], "there is no source 'fr'"),
        (["models.bas=x"], "did you mean 'models.base'?"),
        (["seed=1"], "no option 'seed'"),
    ],
)
def test_wrong_words_are_one_sentence(command, words: list[str], part: str) -> None:
    ended = command(*words, verb="check")
    assert ended.code == 2
    (sentence,) = ended.err.splitlines()
    assert part in sentence


def test_models_that_do_not_fit_are_refused(command, pico: Callable[..., Path]) -> None:
    words = ["models=custom", f"models.base={pico('base', 1)}", f"models.sources=[{pico('wide', 2, hidden_size=32)}]"]
    ended = command(*words, verb="check")
    assert ended.code == 2
    assert "these models cannot be merged" in ended.err


def test_copies_are_refused_here_and_in_every_run(command, pico: Callable[..., Path], tmp_path: Path) -> None:
    one = pico("one", 1)
    shutil.copytree(one, tmp_path / "two")
    words = ["models=custom", f"models.base={pico('base', 2)}", f"models.sources=[{one},{tmp_path / 'two'}]"]
    for verb, more in (("check", []), ("__main__", ["plan=true"]), ("__main__", ["hydra.run.dir=run", "tracker=none"])):
        ended = command(*words, *more, verb=verb)
        assert ended.code == 2
        (sentence,) = ended.err.splitlines()
        assert sentence.startswith("evo-merge: models.sources: 'one' (")
        assert "are copies of one model (all tensors are equal)" in sentence
    assert not (tmp_path / "run" / "study.sqlite").exists()


@pytest.mark.parametrize("merge", ["ties", "dfs"])
def test_a_run_measures_its_pool_before_the_search_where_it_mixes_weights(command, tmp_path: Path, merge: str) -> None:
    few = ("task.limit.search=4", "task.limit.test=4", "budget.evaluations=1", "tracker=none", "hydra.run.dir=run")
    assert command(f"merge={merge}", *few).code == 0
    with opened(Study.read(tmp_path / "run")) as study:
        measured = study.get("mergeability")
    said = "How mergeable the sources are" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert (measured is not None, said) == (merge == "ties", merge == "ties")
    if measured is not None:
        assert [source.name for source in Mergeability.from_json(measured).sources] == ["ja", "math_a", "math_b"]
