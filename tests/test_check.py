"""``python -m evo_merge.check``: what it prints of a pool, and what it refuses."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from evo_merge.mergeability import Mergeability
from evo_merge.study import Study, opened


def test_the_embedded_family_can_be_merged(command) -> None:
    ended = command("models=tiny_ja_math", "measure=true", verb="check")
    assert (ended.code, ended.err) == (0, "")
    said, *blocks = ended.out.split("\n\n")
    assert said == "Nothing was found that speaks against merging these models."
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
    ended = command("models.base=null", "measure=true", verb="check")
    assert ended.code == 0
    assert "\n\nno base, 181,824 weights each" in ended.out
    assert "- Without a base no task vectors are defined" in ended.out


def test_what_speaks_against_a_pool_is_marked_and_is_no_error(command, pico: Callable[..., Path]) -> None:
    words = ["models=custom", f"models.base={pico('base', 1)}", f"models.sources=[{pico('stranger', 2)}]"]
    ended = command(*words, "measure=true", verb="check")
    assert ended.code == 0
    assert "warning  not_descended\n  'stranger' (" in ended.out  # on a sample
    assert "\n! 'stranger' does not descend from the base (relative norm 0." in ended.out  # on all weights


def test_whether_layers_can_run_in_one_path_is_another_question(command, pico: Callable[..., Path]) -> None:
    words = ["models=custom", "models.base=null", f"models.sources=[{pico('a', 1)},{pico('deep', 2, num_hidden_layers=3)}]"]
    mixed, routed = (command(*words, f"paths={paths}", verb="check") for paths in ("false", "true"))
    assert (mixed.code, "refusal  layers" in mixed.out) == (2, True)
    assert (routed.code, "warning  layers" in routed.out) == (0, True)


def test_of_paths_only_what_could_be_mixed_too_is_measured(command, pico: Callable[..., Path]) -> None:
    one, other, deep = pico("one", 1), pico("other", 2), pico("deep", 3, num_hidden_layers=3)
    for sources in ((one, deep), (deep, one)):
        words = ["models=custom", "models.base=null", f"models.sources=[{sources[0]},{sources[1]}]"]
        ended = command(
            *words, f"models.data_flow=[{sources[0].name},{sources[1].name}]", "paths=true", "measure=true", verb="check"
        )
        assert (ended.code, ended.err) == (0, "")
        assert "\nNot measured: the weights of these models cannot be compared one by one (layers).\n" in ended.out
    words = ["models=custom", "models.base=null", f"models.sources=[{one},{other}]", "models.data_flow=[one,other]"]
    ended = command(*words, "paths=true", "measure=true", verb="check")
    assert (ended.code, "\n\nno base, " in ended.out) == (0, True)


def test_all_models_that_cannot_be_read_are_told_of_at_once_with_what_else_is_wrong(command, pico: Callable[..., Path]) -> None:
    wide = pico("wide", 2, intermediate_size=32)
    words = ["models=custom", f"models.base={pico('base', 1)}", f"models.sources=[/nowhere,{wide},/nobody]"]
    ended = command(*words, verb="check")
    assert (ended.code, ended.out.count("refusal  not_found"), ended.out.count("refusal  sizes")) == (2, 2, 1)
    assert (
        ended.err
        == "evo-merge: these models cannot be merged as they are: not_found, sizes (above, with what to do about each)\n"
    )
    run = command(*words, "plan=true")
    assert run.code == 2
    assert [line.split(":")[0] for line in run.err.splitlines()] == [
        "evo-merge",
        "- not_found",
        "- not_found",
        "- sizes",
    ]


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
    assert "refusal  sizes\n  'wide' (" in ended.out
    assert "these models cannot be merged as they are: sizes" in ended.err


def test_copies_are_refused_here_and_in_every_run(command, pico: Callable[..., Path], tmp_path: Path) -> None:
    one = pico("one", 1)
    shutil.copytree(one, tmp_path / "two")
    words = ["models=custom", f"models.base={pico('base', 2)}", f"models.sources=[{one},{tmp_path / 'two'}]"]
    for verb, more in (("check", []), ("__main__", ["plan=true"]), ("__main__", ["hydra.run.dir=run", "tracker=none"])):
        ended = command(*words, *more, verb=verb)
        assert ended.code == 2
        (sentence,) = ended.err.splitlines()
        assert sentence.startswith("evo-merge: these models cannot be merged")
        assert "copies" in sentence
        assert "are copies of one model (all tensors are equal)" in " ".join((ended.out + ended.err).split())
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
