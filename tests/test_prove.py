"""Slow proofs: what no reader should have to believe. ``python -m pytest -m slow tests/test_prove.py -s``."""

# ruff: noqa: T201 (what was proved is told)

import itertools
import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evo_merge.study import Study, opened
from wandb_records import rows

pytestmark = pytest.mark.slow
BEGUN = re.compile(r"evaluating recipe (\w+) on (\S+)")
BUDGET = os.environ.get("EVO_MERGE_PROVE_BUDGET", "").split()  # for a quicker look, such as "budget.generations=2"


def started(folder, *words):
    command = [sys.executable, "-m", "evo_merge", *words]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def begun(folder):
    """Evaluations begun, over all sessions, as the log has them."""
    log = folder / "evo_merge.log"
    return BEGUN.findall(log.read_text()) if log.exists() else []


def test_killed_at_five_random_moments_and_resumed_each_time_equals_unbroken(tmp_path, remembered):
    words = ["tracker=none", *(BUDGET or ["budget.evaluations=45"])]
    process = started(tmp_path, *words, "hydra.run.dir=whole")
    _, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    n_evaluations = len(begun(tmp_path / "whole"))

    # A moment is an evaluation, counted over all sessions, and a fraction of a second after it has begun.
    source = random.Random(0)
    moments = sorted(source.sample(range(1, n_evaluations), 5))
    options = [*words, "hydra.run.dir=broken"]
    for moment in moments:
        delay = source.uniform(0, 0.5)
        process = started(tmp_path, *options)
        while len(begun(tmp_path / "broken")) < moment and process.poll() is None:
            time.sleep(0.002)
        time.sleep(delay)
        process.kill()
        process.communicate()
        print(f"killed {delay:.2f} s after evaluation {moment} of {n_evaluations} had begun")
        options = ["resume=broken"]
    process = started(tmp_path, *options)
    _, err = process.communicate()
    assert (process.returncode, err) == (0, "")

    assert remembered(tmp_path / "broken") == remembered(tmp_path / "whole")
    assert (tmp_path / "broken" / "recipe.yaml").read_bytes() == (tmp_path / "whole" / "recipe.yaml").read_bytes()
    ours, theirs = begun(tmp_path / "broken"), begun(tmp_path / "whole")
    assert len(set(theirs)) == len(theirs)  # an unbroken run evaluates nothing twice
    assert set(ours) == set(theirs)
    assert len(ours) <= len(theirs) + 5  # each kill costs the one in flight, no more
    again = [evaluation for evaluation in set(ours) if ours.count(evaluation) > 1]
    print(f"{len(theirs)} evaluations unbroken, {len(ours)} begun with five kills; begun again: {again}")


def test_a_sweep_leaves_every_genome_and_fitness_in_the_records_of_wandb(tmp_path):
    merges, optimizers, seeds = ("dare_ties", "ties", "linear"), ("cmaes", "random"), ("1", "2")
    words = [f"{key}={','.join(values)}" for key, values in (("merge", merges), ("optimizer", optimizers), ("seed", seeds))]
    process = started(tmp_path, "--multirun", *words, *BUDGET, "hydra.sweep.dir=sweep", "tracker=wandb", "tracker.mode=offline")
    _, err = process.communicate()
    assert process.returncode == 0, err

    folders = [tmp_path / "sweep" / str(number) for number in range(12)]
    swept, n_candidates = set(), 0
    for folder in folders:
        summary = json.loads((folder / "summary.json").read_text())
        swept.add((summary["merge"], summary["optimizer"], str(summary["seed"])))
        kept = {row["candidate"]: row for row in rows(folder) if "candidate" in row}
        with opened(Study.read(folder)) as study:
            genes = [gene["name"] for gene in json.loads(study.get("stages"))[""]]
            candidates = study.candidates()
            assert sorted(kept) == [candidate.number for candidate in candidates]
            for candidate in candidates:
                row, evaluation = kept[candidate.number], study.evaluation(candidate.recipe, "search")
                assert [row[f"gene/{name}"] for name in genes] == candidate.genome.tolist()  # to the last bit
                assert row["failed"] == (evaluation.failure is not None)
                if evaluation.failure is None:
                    assert row["fitness/accuracy"] == evaluation.fitness[0]
        n_candidates += len(candidates)
        print(f"{folder.name}: {summary['merge']} {summary['optimizer']} {summary['seed']}: {len(candidates)} candidates")
    assert swept == set(itertools.product(merges, optimizers, seeds))
    print(f"{n_candidates} candidates of 12 runs are in the records of W&B")


def test_the_wheel_runs_the_main_job_in_an_empty_environment(tmp_path):
    checkout = Path(__file__).parents[1]
    subprocess.run([sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(checkout)], check=True)
    wheel = next(tmp_path.glob("*.whl"))
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "env")], check=True)
    python = str(tmp_path / "env" / "bin" / "python")
    install = [python, "-m", "pip", "install", "--quiet", "-c", str(checkout / "constraints.txt"), str(wheel)]
    subprocess.run(install, check=True)

    words = BUDGET or ["budget.generations=2", "task.limit.search=40", "task.limit.test=40"]
    run = [python, "-m", "evo_merge", *words, "tracker=none", "hydra.run.dir=run"]
    ended = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (ended.returncode, ended.stderr) == (0, "")
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()
    console = subprocess.run([tmp_path / "env" / "bin" / "evo-merge", "--help"], capture_output=True, text=True, check=False)
    assert "dare_ties" in console.stdout
