"""Whole runs with several objectives: the front, its files, a crash, constraints, and what is refused."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.utils import get_class
from omegaconf import OmegaConf

from evo_merge.command_line import CONF
from evo_merge.compose import TAKE_SEVERAL
from evo_merge.pareto import front
from evo_merge.recipe import to_yaml
from evo_merge.recipe_file import load
from evo_merge.study import Study, opened

BOTH = (
    "task=several",
    "+task@task.parts.ja=tiny_ja_math",
    "+task@task.parts.en=tiny_en_math",
    *(f"task.parts.{part}.limit.{split}=20" for part in ("ja", "en") for split in ("search", "validation", "test")),
    "tracker=none",
)
SMALL = (*BOTH, "optimizer=nsga2", "optimizer.population_size=6", "budget.generations=3")


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search for two objectives, to its end."""
    folder = tmp_path_factory.mktemp("several")
    done = subprocess.run(
        [sys.executable, "-m", "evo_merge", *SMALL, "hydra.run.dir=run"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return folder / "run"


def test_the_front_is_what_no_candidate_dominates(unbroken: Path) -> None:
    with opened(Study.read(unbroken)) as study:
        proposals = study.proposals()
        outcomes = [study.outcome(proposal) for proposal in proposals]
        fitness = np.array([outcome[0] for outcome in outcomes if outcome is not None])
        assert fitness.shape == (18, 2)
        expected = {proposals[i].number for i in front(fitness)}
        entrants = [entrant for entrant in study.entrants() if entrant.role in ("best", "front")]
        assert all(study.is_evaluated(entrant.recipe, "test") for entrant in entrants)
        numbers = {candidate.number for candidate in study.candidates() if candidate.recipe in [e.recipe for e in entrants]}
    assert numbers == expected
    assert len(entrants) == len(expected)
    assert {int(file.stem) for file in (unbroken / "front").glob("*.yaml")} == (expected if len(expected) > 1 else set())
    assert load(unbroken / "recipe.yaml") == next(entrant.recipe for entrant in entrants if entrant.role == "best")


def test_every_model_of_it_can_be_asked(unbroken: Path) -> None:
    words = [
        sys.executable,
        "-m",
        "evo_merge.ask",
        str(unbroken),
        "太郎はりんごを3個持っています。5個買いました。全部で何個ですか。",
    ]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert [line for line in ended.stdout.splitlines() if line and line[0] != " "] == ["ja", "math_a", "math_b", "evolved"]


def test_each_problem_counts_for_its_own_objective_only(unbroken: Path) -> None:
    with opened(Study.read(unbroken)) as study:
        found = study.evaluation(study.candidates()[0].recipe, "search")
    assert found is not None
    assert found.metrics[:2] == ("ja/accuracy", "en/accuracy")
    asked = ~np.isnan(found.scores[:, :2])
    assert asked.sum(axis=0).tolist() == [20, 20]
    assert (asked.sum(axis=1) == 1).all()


def test_killed_and_resumed_keeps_the_front(
    unbroken: Path, command: Callable[..., Any], remembered: Any, tmp_path: Path
) -> None:
    process = subprocess.Popen([sys.executable, "-m", "evo_merge", *SMALL, "hydra.run.dir=run"], cwd=tmp_path)
    until = time.monotonic() + 120
    while not _n_evaluated(tmp_path / "run") > 15:  # 7 models beside the search, and 8 candidates
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)
    process.kill()
    process.wait()

    assert command("resume=run").code == 0
    assert remembered(tmp_path / "run") == remembered(unbroken)
    own, other = (sorted((folder / "front").glob("*.yaml")) for folder in (tmp_path / "run", unbroken))
    assert [file.name for file in own] == [file.name for file in other]
    assert [file.read_bytes() for file in own] == [file.read_bytes() for file in other]


def _n_evaluated(folder: Path) -> int:
    try:
        with opened(Study.read(folder)) as study:
            return int(study._db.execute("SELECT COUNT(*) FROM evaluations").fetchone()[0])
    except Exception:  # noqa: BLE001  being created
        return 0


def test_every_member_can_be_exported_as_a_checkpoint(command: Callable[..., Any], tmp_path: Path) -> None:
    ended = command(*SMALL, "export=front", "budget.generations=2", "seed=2", "hydra.run.dir=run")
    assert ended.code == 0, ended.err
    recipes = sorted((tmp_path / "run" / "front").glob("*.yaml"))
    assert len(recipes) > 1
    assert all((recipe.with_suffix("") / "model.safetensors").is_file() for recipe in recipes)
    assert all("candidate" in (recipe.with_suffix("") / "README.md").read_text() for recipe in recipes)


def test_one_number_of_both_is_for_an_optimizer_of_one(command: Callable[..., Any], tmp_path: Path) -> None:
    words = ("optimizer=cmaes", "optimizer.population_size=4", "budget.generations=1", "scalarize=weighted_sum")
    ended = command(*BOTH, *words, "scalarize.weights={ja/accuracy: 3, en/accuracy: 1}", "hydra.run.dir=run")
    assert ended.code == 0, ended.err
    with opened(Study.read(tmp_path / "run")) as study:
        candidates = study.candidates()
        found = [study.evaluation(candidate.recipe, "search") for candidate in candidates]
        best = int(study.get("best_number") or -1)
    sums = [3 * e.means["ja/accuracy"] + e.means["en/accuracy"] for e in found if e is not None]
    assert [float(e.fitness[0]) for e in found if e is not None] == pytest.approx(sums)
    assert best == int(np.argmax(sums))
    assert not (tmp_path / "run" / "front").exists()


def test_a_constraint_is_kept_to(command: Callable[..., Any], tmp_path: Path) -> None:
    words = (
        "optimizer=cmaes",
        "budget.generations=3",
        "objectives=[ja/accuracy]",
        "constraints={brevity: -60, en/accuracy: 0.4}",
    )
    ended = command(*BOTH, *words, "hydra.run.dir=run")
    assert ended.code == 0, ended.err
    with opened(Study.read(tmp_path / "run")) as study:
        found = {c.number: study.evaluation(c.recipe, "search") for c in study.candidates()}
        best = int(study.get("best_number") or -1)
    kept = {n: e for n, e in found.items() if e is not None and e.means["brevity"] >= -60 and e.means["en/accuracy"] >= 0.4}
    assert 0 < len(kept) < len(found)
    assert {n for n, e in found.items() if e is not None and e.violation == 0} == set(kept)
    assert best == max(kept, key=lambda n: (float(kept[n].fitness[0]), -n))


def test_a_constraint_that_nobody_keeps_to_names_the_nearest_and_loses_nothing(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    words = ("optimizer=cmaes", "budget.generations=1", "objectives=[ja/accuracy]", "constraints={en/accuracy: 1.5}")
    ended = command(*BOTH, *words, "hydra.run.dir=run")
    assert ended.code == 2
    assert "no candidate keeps to the constraints; the nearest is candidate" in ended.err
    assert "resume=run budget.evaluations=" in ended.err
    report = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "keeps to the constraints, so no merge has been chosen; the nearest is" in report
    with opened(Study.read(tmp_path / "run")) as study:
        found = {c.number: study.evaluation(c.recipe, "search") for c in study.candidates()}
        assert study.get("best_number") is None
    nearest = min(found, key=lambda n: (found[n].violation, -float(found[n].fitness[0]), n))  # type: ignore[union-attr]
    assert f"the nearest is candidate {nearest} (en/accuracy" in ended.err


def test_few_sources_press_for_fewer(command: Callable[..., Any], tmp_path: Path) -> None:
    words = ("optimizer=cmaes_margin", "merge.select_sources=true", "objectives=[accuracy,few_sources]", "budget.generations=3")
    limits = ("task.limit.search=20", "task.limit.test=20", "tracker=none", "scalarize=weighted_sum")
    ended = command(*words, *limits, "scalarize.weights={accuracy: 0, few_sources: 1}", "hydra.run.dir=run")
    assert ended.code == 0, ended.err
    assert len(load(tmp_path / "run" / "recipe.yaml").sources) == 1  # type: ignore[union-attr]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["objective"] == "accuracy"


def test_a_hybrid_searches_mixtures_and_paths_for_both_and_a_stage_for_one(command: Callable[..., Any], tmp_path: Path) -> None:
    """Akiba et al. 2024, section 3.3: results for one aim each, then paths through them for all."""
    optimizer = ("optimizer=nsga2", "optimizer.population_size=4", "budget.evaluations=4")
    paths = ("optimizer@merge.data_flow.optimizer=nsga2", "merge.data_flow.optimizer.population_size=4")
    stage = (
        "+merge@merge.parameter.en.space=ties",
        "+merge.parameter.en.space._partial_=true",
        "+task@merge.parameter.en.task=tiny_en_math",
        "merge.parameter.en.task.limit.search=20",
    )
    pairs = ("merge.pairs=[[ps,en],[en,ja]]", "merge.budget.evaluations=8")
    words = (*BOTH, "merge=hybrid", *optimizer, *paths, *stage, *pairs)
    ended = command(*(word for word in words if word != "tracker=none"), "tracker.mode=offline", "hydra.run.dir=run")
    assert ended.code == 0, ended.err
    with opened(Study.read(tmp_path / "run")) as study:
        shapes = {
            (proposal.stage, len(outcome[0]))
            for proposal in study.proposals()
            if (outcome := study.outcome(proposal)) is not None
        }
        stages = {candidate.stage for candidate in study.candidates()}
        chosen = study.candidate(int(study.get("best_number") or -1))
    assert {stage for stage, _ in shapes} == stages == {"ps", "en", "ps>en", "en>ja"}
    assert {n for stage, n in shapes if stage == "en"} == {1}
    assert {n for stage, n in shapes if stage != "en"} == {2}
    assert chosen.stage != "en"
    assert "hears no more" not in (tmp_path / "run" / "evo_merge.log").read_text()


@pytest.mark.parametrize("words", [("selection=validation",), ("selection=validation", "evaluation.batch=16")])
def test_the_validation_split_chooses_among_the_front(
    command: Callable[..., Any], tmp_path: Path, words: tuple[str, ...]
) -> None:
    ended = command(*SMALL, *words, "hydra.run.dir=run")
    assert ended.code == 0, ended.err
    with opened(Study.read(tmp_path / "run")) as study:
        validated = [c for c in study.candidates() if study.is_evaluated(c.recipe, "validation")]
        scores = np.stack([study.evaluation(c.recipe, "validation").fitness for c in validated])  # type: ignore[union-attr]
        on_front = [validated[i].recipe for i in front(scores)]
        entrants = [entrant.recipe for entrant in study.entrants() if entrant.role in ("best", "front")]
        portions = {candidate.portion for candidate in study.candidates()}
    assert len(portions) == (3 if len(words) == 2 else 1)
    assert sorted(map(to_yaml, on_front)) == sorted(map(to_yaml, entrants))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["optimizer=cmaes"],
            "CMAES takes one objective, and there are 2 (ja/accuracy, en/accuracy); choose optimizer=<one that takes several>",
        ),
        (["optimizer=cmaes"], "(nsga2, nsga3, map_elites, natural_niches, random, sobol)"),
        (["optimizer=nsga2", "objectives=[ja/acuracy]"], "objectives: there is no 'ja/acuracy'; the task has ja/accuracy"),
        (["optimizer=nsga2", "constraints={en/accuracy: mathb}"], "did you mean 'math_b'?"),
        (["optimizer=nsga2", "export=knee"], "export must be one of best, front, got 'knee'"),
        (["optimizer=cmaes", "scalarize=chebyshev", "scalarize.weights={a: 1}"], "there is no objective 'a'"),
        (["optimizer=nsga2", "~task.parts.en"], "task=several needs two parts or more, got ja"),
        (
            ["optimizer=nsga2", "objectives=ja/accuracy"],
            "objectives must be a list, got 'ja/accuracy': 'objectives=[ja/accuracy]'",
        ),
        (["optimizer=nsga2", "constraints=[a]"], "constraints must name what each is at least, got '['a']'"),
        (["optimizer=nsga2", "objectives=[ja/accuracy]", "scalarize=chebyshev"], "scalarize makes one number of several"),
    ],
)
def test_what_cannot_be_wanted_is_one_sentence(command: Callable[..., Any], words: list[str], said: str) -> None:
    ended = command(*BOTH, *words)
    assert ended.code == 2
    assert said in ended.err
    assert "Traceback" not in ended.err


def test_the_optimizers_that_take_several_are_those_that_a_refusal_names() -> None:
    takes = {
        file.stem: get_class(OmegaConf.load(file)._target_).takes_several  # type: ignore[union-attr]
        for file in (CONF / "optimizer").glob("*.yaml")
    }
    assert {name for name, several in takes.items() if several} == set(TAKE_SEVERAL)
