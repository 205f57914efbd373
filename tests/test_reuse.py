"""A run that takes over what an earlier one was answered: the same run, for less."""

import shutil
import subprocess
import sys

import pytest

from evo_merge.study import Study, opened

SMALL = ("tracker=none", "task.limit.search=20", "task.limit.test=20", "optimizer.population_size=5")


def run(folder, *words):
    command = [sys.executable, "-m", "evo_merge", *SMALL, *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def found(folder):
    """What every candidate and entrant scored, without what it cost; and the tokens that were generated."""
    with opened(Study.read(folder)) as study:
        candidates = [(c.genome.tolist(), c.recipe, study.evaluation(c.recipe, c.portion)) for c in study.candidates()]
        entrants = [(e.name, e.recipe, study.evaluation(e.recipe, "test")) for e in study.entrants()]
        tokens = study._db.execute("SELECT SUM(new_tokens) FROM evaluations").fetchone()[0]
    scores = [(*names, e.metrics, e.scores.tolist(), e.completions) for *names, e in (*candidates, *entrants)]
    return scores, tokens


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    folder = tmp_path_factory.mktemp("earlier")
    ended = run(folder, "budget.generations=2", "hydra.run.dir=run")
    assert ended.returncode == 0, ended.stderr
    return folder / "run"


def test_a_run_of_the_same_words_asks_nothing(earlier, tmp_path):
    ended = run(tmp_path, "budget.generations=2", f"evaluation.reuse={earlier}", "hydra.run.dir=run")
    assert ended.returncode == 0, ended.stderr
    scores, tokens = found(tmp_path / "run")
    expected, spent = found(earlier)
    assert scores == expected
    assert spent > 0
    assert tokens == 0
    assert (tmp_path / "run" / "recipe.yaml").read_bytes() == (earlier / "recipe.yaml").read_bytes()


def test_a_longer_run_is_the_one_that_it_would_be(earlier, tmp_path):
    for name, words in (("plain", ()), ("reusing", (f"evaluation.reuse=[{earlier}]",))):
        ended = run(tmp_path, "budget.generations=3", f"hydra.run.dir={name}", *words)
        assert ended.returncode == 0, ended.stderr
    plain, spent = found(tmp_path / "plain")
    reusing, tokens = found(tmp_path / "reusing")
    assert reusing == plain
    assert 0 < tokens < spent


def test_another_aim_and_optimizer_share_the_sources(earlier, tmp_path):
    words = ("optimizer=random", "constraints={accuracy: math_a}", "objectives=[accuracy,brevity]", "budget.evaluations=5")
    ended = run(tmp_path, *words, f"evaluation.reuse={earlier}", "hydra.run.dir=run")
    assert ended.returncode == 0, ended.stderr
    with opened(Study.read(earlier)) as before, opened(Study.read(tmp_path / "run")) as study:
        for entrant in study.entrants():
            if entrant.role == "source":
                ours, theirs = study.evaluation(entrant.recipe, "test"), before.evaluation(entrant.recipe, "test")
                assert ours.cost.new_tokens == 0
                assert ours.completions == theirs.completions
                assert set(ours.metrics) > set(theirs.metrics)  # with the objectives of its own aim


def test_resumes_where_the_earlier_run_is_gone(earlier, tmp_path):
    moved = shutil.copytree(earlier, tmp_path / "moved")
    ended = run(tmp_path, "budget.generations=1", f"evaluation.reuse={moved}", "hydra.run.dir=run")
    assert ended.returncode == 0, ended.stderr
    shutil.rmtree(moved)
    command = [sys.executable, "-m", "evo_merge", "resume=run", "budget.generations=2"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "what it would have spared is evaluated" in (tmp_path / "run" / "evo_merge.log").read_text()
    assert found(tmp_path / "run")[0] == found(earlier)[0]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("evaluation.reuse=nowhere",), ("evaluation.reuse", "holds no run")),
        (("evaluation.reuse=7",), ("evaluation.reuse must be a run folder", "got 7")),
        (("evaluation.reuse={earlier}", "task.max_new_tokens=30"), ("task.max_new_tokens is 40 there and 30 here",)),
        (("evaluation.reuse={earlier}", "generator.degenerate=null"), ("generator.degenerate is",)),
    ],
)
def test_refuses(earlier, tmp_path, words, parts):
    ended = run(tmp_path, *(word.format(earlier=earlier) for word in words), "hydra.run.dir=run")
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    for part in parts:
        assert part in ended.stderr
    assert not (tmp_path / "run" / "study.sqlite").exists()


def test_other_problems_are_asked(earlier, tmp_path):
    ended = run(tmp_path, "budget.generations=1", f"evaluation.reuse={earlier}", "hydra.run.dir=run", "task.limit.search=21")
    assert ended.returncode == 0, ended.stderr
    with opened(Study.read(tmp_path / "run")) as study:
        first = study.entrants()[0].recipe
        assert study.evaluation(first, "search").cost.new_tokens > 0
        assert study.evaluation(first, "test").cost.new_tokens == 0


def test_what_is_known_of_a_part_is_judged_by_an_aim_that_reads_the_texts(tmp_path):
    part = ("optimizer=random", "budget.evaluations=5", "evaluation.batch=5", "evaluation.subset=fixed")
    ended = run(tmp_path, *part, "hydra.run.dir=first")
    assert ended.returncode == 0, ended.stderr
    aim = ("objectives=[accuracy,brevity]", "evaluation.batch=8", "evaluation.reuse=first")  # the sources were asked all
    ended = run(tmp_path, *part, *aim, "hydra.run.dir=second")
    assert ended.returncode == 0, ended.stderr
    ended = run(tmp_path, *part, *aim[:2], "hydra.run.dir=alone")
    assert ended.returncode == 0, ended.stderr
    assert found(tmp_path / "second")[0] == found(tmp_path / "alone")[0]
    assert found(tmp_path / "second")[1] < found(tmp_path / "alone")[1]
