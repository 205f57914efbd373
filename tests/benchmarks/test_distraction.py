"""The distraction test: its useless sources teach nothing that the problems need, and its rule says what it should."""

import argparse
import importlib
import math
import random
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import ModuleType

import pytest
from omegaconf import DictConfig
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

from evo_merge.models.compatibility import refuse_unmixable
from evo_merge.models.pool import Pool
from evo_merge.models.tiny.__main__ import SHIPPED
from evo_merge.models.tiny.vocabulary import VOCABULARY
from evo_merge.tasks import tiny_world as world

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def distractors(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module that trains the useless sources."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("distractors")


@pytest.fixture
def distraction(distractors: ModuleType) -> ModuleType:
    """The module that runs the searches."""
    return importlib.import_module("distraction")


# --- the useless sources ---------------------------------------------------------------------------------------------


def test_no_useless_text_asks_answers_or_calculates(distractors: ModuleType) -> None:
    asked = [phrase for pair in (world.IN_ALL, world.LEFT, *world.TOPICS.values()) for phrase in pair]
    marks = {VOCABULARY[piece] for piece in ("Q: ", "\nA: ", *asked, "+", "-", "×", "=")}

    for name, text in distractors.TEXTS.items():
        rng = random.Random(0)
        lessons = [distractors.lesson_of(text)(rng) for _ in range(200)]
        assert not any(marks & set(lesson.tokens) for lesson in lessons), name
        assert {len(lesson.tokens) for lesson in lessons} == {distractors.LENGTH + 2}, name
        assert all(list(lesson.learnt) == list(range(1, len(lesson.tokens))) for lesson in lessons), name
        assert len({tuple(lesson.tokens) for lesson in lessons}) > 20, name


def test_a_useless_source_is_the_same_every_time_and_fits_the_family(
    distractors: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distractors, "STEPS", 3)
    monkeypatch.setattr(distractors, "TEXTS", {"counting": distractors.counting})

    folders = [distractors.useless_sources(tmp_path / name)["counting"] for name in ("one", "two")]

    weights = [(folder / "model.safetensors").read_bytes() for folder in folders]
    assert weights[0] == weights[1]
    base, tuned = load_file(SHIPPED / "base" / "model.safetensors"), load_file(folders[0] / "model.safetensors")
    assert any(not base[name].equal(tuned[name]) for name in base)
    pool = Pool(base=str(SHIPPED / "base"), sources=[str(folders[0]), str(SHIPPED / "ja")])
    refuse_unmixable(pool.base, pool.sources)
    assert distractors.task_vector_length(LlamaForCausalLM.from_pretrained(SHIPPED / "base")) == 0
    assert distractors.task_vector_length(LlamaForCausalLM.from_pretrained(SHIPPED / "ja")) == pytest.approx(4.0, abs=0.05)


# --- the searches ----------------------------------------------------------------------------------------------------


def composed(distraction: ModuleType, search: object, useless: dict[str, Path]) -> DictConfig:
    """What the command of a search composes."""
    from hydra import compose, initialize_config_dir

    from evo_merge.command_line import CONF

    options = argparse.Namespace(plain="cmaes", selecting="cmaes_margin", budget=180, options=["task.limit.search=10"])
    asked = [word for word in distraction.words(search, Path("out"), useless, options) if not word.startswith("hydra.")]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=asked)


def test_both_kinds_get_the_first_useless_sources_and_the_same_budget(distraction: ModuleType, tmp_path: Path) -> None:
    useless = {name: tmp_path / name for name in ("x", "y", "z")}

    for kind, optimizer in ((distraction.PLAIN, "CMAES"), (distraction.SELECTING, "CMAESMargin")):
        config = composed(distraction, distraction.Search(2, kind, 4), useless)
        assert [source.name for source in config.models.sources] == ["ja", "math_a", "math_b", "x", "y"]
        assert config.merge.select_sources == (kind == distraction.SELECTING)
        assert config.optimizer._target_.rpartition(".")[2] == optimizer
        assert config.optimizer.get("start_probability") == (0.5 if kind == distraction.SELECTING else None)
        assert (config.budget.evaluations, config.seed, config.task.limit.search) == (180, 4, 10)


# --- what came out ---------------------------------------------------------------------------------------------------


def scores_of(distraction: ModuleType, measured: dict[tuple[int, str], list[float]]) -> dict[object, float]:
    return {
        distraction.Search(n_useless, kind, seed): score
        for (n_useless, kind), scores in measured.items()
        for seed, score in enumerate(scores, start=1)
    }


def test_losses_are_against_the_same_kind_without_useless_sources(distraction: ModuleType) -> None:
    plain, selecting = distraction.PLAIN, distraction.SELECTING
    measured = {(0, plain): [0.9, 0.8], (4, plain): [0.5, 0.7], (0, selecting): [0.7, 0.7], (4, selecting): [0.6, 0.6]}

    rows = {(row.n_useless, row.kind): row for row in distraction.rows_of(scores_of(distraction, measured))}

    assert rows[4, plain].mean == pytest.approx(0.6)
    assert rows[4, plain].error == pytest.approx(0.1)  # of two numbers: half their distance
    assert rows[4, plain].loss == pytest.approx(0.25)
    assert rows[4, plain].loss_error == pytest.approx(math.hypot(0.1, 0.05))
    assert rows[4, selecting].loss == pytest.approx(0.1)
    assert rows[0, plain].loss == 0


@pytest.mark.parametrize(
    ("plain_loss", "selecting_loss", "told"),
    [(0.30, 0.15, "holds"), (0.30, -0.02, "holds"), (0.30, 0.16, "does not hold"), (0.20, 0.20, "no sure loss")],
)
def test_the_rule_asks_for_half_of_a_loss_above_two_standard_errors(
    distraction: ModuleType, plain_loss: float, selecting_loss: float, told: str
) -> None:
    plain = distraction.Row(8, distraction.PLAIN, 0.5, 0.1, plain_loss, 0.1)
    selecting = distraction.Row(8, distraction.SELECTING, 0.5, 0.1, selecting_loss, 0.1)

    assert distraction.verdict(plain, selecting) == told


def test_of_one_seed_nothing_is_known(distraction: ModuleType) -> None:
    plain, selecting = distraction.PLAIN, distraction.SELECTING
    measured = {(0, plain): [0.9], (8, plain): [0.1], (0, selecting): [0.9], (8, selecting): [0.8]}

    lines = list(distraction.table(distraction.rows_of(scores_of(distraction, measured))))

    assert lines[-1] == "| 8 | 10.0 | 80.0 | 80.0 | 10.0 | unknown |"


def test_table_and_figure_show_every_mean(distraction: ModuleType) -> None:
    plain, selecting = distraction.PLAIN, distraction.SELECTING
    measured = {(0, plain): [0.9, 0.9], (8, plain): [0.1, 0.3], (0, selecting): [0.9, 0.9], (8, selecting): [0.8, 0.8]}
    scores = scores_of(distraction, measured)
    rows = distraction.rows_of(scores)

    lines = list(distraction.table(rows))
    assert lines[-1] == "| 8 | 20.0 ± 10.0 | 70.0 ± 10.0 | 80.0 ± 0.0 | 10.0 ± 0.0 | holds |"
    drawn = ElementTree.fromstring(distraction.figure(rows, scores).standalone())
    told = drawn.attrib["aria-label"]
    assert all(value in told for value in ("20.0 ± 10.0", "80.0 ± 0.0"))
    circles = [element for element in drawn.iter("{http://www.w3.org/2000/svg}circle") if element.get("class") == "ring"]
    assert len(circles) == 4


@pytest.mark.slow
def test_the_benchmark_runs_writes_and_does_not_run_again(
    distraction: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.import_module("distractors"), "STEPS", 2)
    limits = ["task.limit.search=4", "task.limit.test=4", "generator.batch_size=4"]
    given = ["--counts", "2", "--seeds", "1", "--budget", "2", "--folder", str(tmp_path), "--options", *limits]
    monkeypatch.setattr("sys.argv", ["distraction.py", *given])

    assert distraction.main() == 0
    first = capsys.readouterr().out
    dated = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/summary.json")}
    assert distraction.main() == 0

    assert capsys.readouterr().out == first
    assert first.count("\n") == 4
    assert len(dated) == 4
    assert {path: path.stat().st_mtime_ns for path in dated} == dated
    assert (tmp_path / "distraction.csv").read_text(encoding="utf-8").count("\n") == 5
    ElementTree.parse(tmp_path / "distraction.svg")
