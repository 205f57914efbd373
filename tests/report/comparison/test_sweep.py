"""``experiment=compare``: a sweep that compares itself, whatever becomes of single jobs."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from evo_merge.command_line import CONF
from wandb_records import records

SMALL = ("merge=linear", "models.use=[ja,math_a]", "task.limit.search=6", "task.limit.test=6", "task.max_new_tokens=8",
         "optimizer.population_size=4", "budget.evaluations=4", "hydra.sweep.dir=sweep")  # fmt: skip


Command = Callable[..., Any]


def test_every_optimizer_that_it_names_exists_and_all_have_the_same_seeds() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=["experiment=compare"], return_hydra_config=True)

    params = config.hydra.sweeper.params
    assert set(params) == {"optimizer", "seed"}
    assert {f"{name}.yaml" for name in params.optimizer.split(",")} <= {file.name for file in (CONF / "optimizer").iterdir()}
    assert "random" in params.optimizer.split(",")  # what the others are tested against


def test_a_job_that_fails_is_named_and_the_others_are_compared(command: Command, tmp_path: Path) -> None:
    ended = command("experiment=compare", *SMALL, "optimizer=cmaes,random", "seed=1,one", "tracker.mode=offline")

    assert ended.code == 2
    assert [line[:16] for line in ended.err.splitlines()] == ["evo-merge: seed:"] * 2  # one of each failed job
    files, said = ended.out.splitlines()[-4:-2], ended.out.splitlines()[-2:]
    assert files == ["sweep/comparison.html", "sweep/comparison.csv"]
    assert "mean test score, which no rank test could examine." in said[0]
    assert said[1].startswith("There is no rank test: one seed a group says nothing about another seed")
    with (tmp_path / "sweep" / "comparison.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["folder"], row["group"], row["evaluations"]) for row in rows] == [
        ("0", "optimizer=cmaes", "4"),
        ("2", "optimizer=random", "4"),
    ]
    page = (tmp_path / "sweep" / "comparison.html").read_text(encoding="utf-8")
    for name in ("cmaes", "random"):
        assert f"The job optimizer={name} seed=one" in page
    summaries = [json.loads((tmp_path / "sweep" / row["folder"] / "summary.json").read_text()) for row in rows]
    assert [float(row["test_score"]) for row in rows] == [summary["test"]["best"]["score"] for summary in summaries]
    groups = {
        record.run.run_group for row in rows for record in records(tmp_path / "sweep" / row["folder"]) if record.run.run_id
    }
    assert groups == {"sweep"}  # W&B shows them as one comparison


@pytest.mark.parametrize("words", [("plan=true",), ("seed=one,two",)])
def test_a_sweep_without_a_run_writes_no_comparison(command: Command, tmp_path: Path, words: tuple[str, ...]) -> None:
    ended = command("experiment=compare", *SMALL, "optimizer=cmaes,random", "seed=1", "tracker=none", *words)

    assert ended.code == (0 if words == ("plan=true",) else 2)
    assert "not compared" not in ended.err
    assert not list(tmp_path.rglob("comparison.*"))
