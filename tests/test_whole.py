"""Whole runs of the embedded family at small limits: the README's command, killed, stopped, resumed, swept."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

import evo_merge.models.tiny
from evo_merge.recipe_file import load
from evo_merge.study import Study, opened

SMALL = ("tracker=none", "task.limit.search=20", "task.limit.test=20", "optimizer.population_size=5", "budget.generations=2")


def started(folder, *words):
    """A run in a process of its own."""
    command = [sys.executable, "-m", "evo_merge", *words]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def evaluations(folder):
    """How many evaluations the study holds, 0 before there is one."""
    try:
        with opened(Study.read(folder)) as study:
            return study._db.execute("SELECT COUNT(*) FROM evaluations").fetchone()[0]
    except Exception:  # noqa: BLE001  being created
        return 0


def wait_for(folder, n_evaluations, process):
    until = time.monotonic() + 120
    while evaluations(folder) < n_evaluations:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory):
    """The README's command, with small limits."""
    folder = tmp_path_factory.mktemp("unbroken")
    process = started(folder, *SMALL, "hydra.run.dir=run")
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert err == ""
    assert "generation 1" in out
    assert str(folder / "run") not in out  # shown as the user would type it
    return folder / "run"


def test_a_run_leaves_everything_that_the_design_names(unbroken):
    names = {file.name for file in unbroken.iterdir()}
    assert {
        ".hydra",
        "study.sqlite",
        "recipe.yaml",
        "summary.json",
        "model",
        "report.html",
        "evo_merge.log",
    } <= names
    summary = json.loads((unbroken / "summary.json").read_text())
    assert {"task", "merge", "optimizer", "seed", "evaluations", "seconds", "objective", "test", "search"} <= set(summary)
    assert (summary["task"], summary["merge"], summary["optimizer"], summary["seed"]) == (
        "tiny_ja_math",
        "dare_ties",
        "cmaes",
        1,
    )
    assert summary["evaluations"] == 10
    test = summary["test"]
    assert test["n"] == 20
    assert set(test["sources"]) == {"ja", "math_a", "math_b"}
    for entry in (*test["sources"].values(), *test["unoptimised"].values(), test["best"]):
        assert entry["interval"][0] <= entry["score"] <= entry["interval"][1]
    assert any(name.startswith("dare_ties") for name in test["unoptimised"])
    assert any(name.startswith("linear") for name in test["unoptimised"])
    assert set(test["paired"]) == set(test["sources"]) | set(test["unoptimised"])
    assert all({"difference", "p"} <= set(pair) for pair in test["paired"].values())
    assert test["best"]["recipe"] == yaml.safe_load((unbroken / "recipe.yaml").read_text())


def test_the_study_holds_every_candidate_and_the_best_has_the_best_search_score(unbroken):
    with opened(Study.read(unbroken)) as study:
        candidates = study.candidates()
        assert [c.number for c in candidates] == list(range(10))
        found = [study.evaluation(c.recipe, "search") for c in candidates]
        assert all(evaluation.scores.shape == (20, 3) and len(evaluation.completions) == 20 for evaluation in found)
        scores = [evaluation.fitness[0] for evaluation in found]
        (best,) = [entrant for entrant in study.entrants() if entrant.role == "best"]
        assert best.recipe == candidates[int(np.argmax(scores))].recipe
        assert all(study.is_evaluated(entrant.recipe, "test") for entrant in study.entrants())
        assert len(study.entrants()) == 3 + 1 + 3 + 1
        assert sum(study.is_evaluated(c.recipe, "test") for c in candidates) == 1  # the test split is for the chosen one
    assert json.loads((unbroken / "summary.json").read_text())["search"]["best"] == max(scores)


def test_the_model_carries_its_recipe(unbroken):
    with safe_open(unbroken / "model" / "model.safetensors", "pt") as file:
        assert file.metadata()["recipe"] == (unbroken / "recipe.yaml").read_text()


def test_the_same_seed_gives_the_same_run_and_another_seed_another(unbroken, command, remembered, tmp_path):
    for seed in (1, 2):
        assert command(*SMALL, f"seed={seed}", f"hydra.run.dir=seed{seed}").code == 0

    assert remembered(tmp_path / "seed1") == remembered(unbroken)
    assert (tmp_path / "seed1" / "recipe.yaml").read_bytes() == (unbroken / "recipe.yaml").read_bytes()
    first, other = remembered(tmp_path / "seed1"), remembered(tmp_path / "seed2")
    assert all(ours[2] != theirs[2] for ours, theirs in zip(first[:10], other[:10], strict=True))


def test_killed_twice_and_resumed_equals_unbroken(unbroken, command, remembered, tmp_path):
    words, folder = (*SMALL, "hydra.run.dir=run"), tmp_path / "run"
    for moment in (3, 14):  # among the baselines, and among the candidates
        process = started(tmp_path, *words)
        wait_for(folder, moment, process)
        process.kill()
        process.communicate()
        words = ("resume=run",)

    assert command("resume=run").code == 0
    assert remembered(folder) == remembered(unbroken)
    assert (folder / "recipe.yaml").read_bytes() == (unbroken / "recipe.yaml").read_bytes()
    log = (folder / "evo_merge.log").read_text()
    assert log.count("evaluating recipe") <= (unbroken / "evo_merge.log").read_text().count("evaluating recipe") + 2


def test_ctrl_c_stops_after_the_candidate_in_flight_and_says_how_to_go_on(unbroken, command, remembered, tmp_path):
    process = started(tmp_path, *SMALL, "hydra.run.dir=run")
    wait_for(tmp_path / "run", 10, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()

    assert process.returncode == 130
    assert err.splitlines()[-1].endswith("everything so far is saved: continue with  python -m evo_merge resume=run")
    assert "Traceback" not in err
    log = (tmp_path / "run" / "evo_merge.log").read_text()
    assert log.count("evaluating recipe") == evaluations(tmp_path / "run")  # what was begun is recorded

    ended = command("resume=run")
    assert (ended.code, ended.err) == (0, "")
    assert remembered(tmp_path / "run") == remembered(unbroken)


def test_a_second_ctrl_c_stops_at_once_and_loses_only_the_candidate_in_flight(tmp_path):
    words = ("tracker=none", "task.limit.search=2000", "generator.batch_size=4", "hydra.run.dir=run")
    process = started(tmp_path, *words)
    until = time.monotonic() + 60
    log = tmp_path / "run" / "evo_merge.log"
    while not log.exists() or "evaluating recipe" not in log.read_text():
        assert time.monotonic() < until
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None  # the candidate in flight takes long
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)

    assert process.returncode == 130
    assert "Traceback" not in err
    assert "resume=run" in err.splitlines()[-1]
    assert evaluations(tmp_path / "run") == 0


def test_a_finished_run_resumed_with_a_larger_budget_goes_on(command, tmp_path, remembered):
    words = [*SMALL[:-1], "hydra.run.dir=run"]
    assert command(*words, "budget.generations=1").code == 0
    before = remembered(tmp_path / "run")
    assert command("resume=run", "budget.generations=2").code == 0
    longer = remembered(tmp_path / "run")

    # The chosen one may be another now, and it alone has a test score.
    assert [(*who[:4], who[4][0]) for who in longer[:5]] == [(*who[:4], who[4][0]) for who in before[:5]]
    assert [who[0] for who in longer[:10]] == list(range(10))
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["evaluations"] == 10


def test_the_validation_split_chooses_among_the_best_ten(command, tmp_path):
    words = [*SMALL, "optimizer.population_size=6", "selection=validation", "task.limit.validation=30", "hydra.run.dir=run"]
    assert command(*words).code == 0

    with opened(Study.read(tmp_path / "run")) as study:
        validated = [c for c in study.candidates() if study.is_evaluated(c.recipe, "validation")]
        scores = {c.number: float(study.evaluation(c.recipe, "validation").fitness[0]) for c in validated}
        search = {c.number: float(study.evaluation(c.recipe, "search").fitness[0]) for c in study.candidates()}
        assert len(validated) == 10
        assert min(search[n] for n in scores) >= max(score for n, score in search.items() if n not in scores)
        assert scores[int(study.get("best_number"))] == max(scores.values())


@pytest.mark.parametrize(
    ("words", "n_genes"),
    [
        (["merge=linear", "models.use=[ja,math_a]"], 2),
        (["merge=slerp", "models.use=[ja,math_a]"], 1),
        (["merge=task_arithmetic", "merge.granularity=layer"], 3 * 6),
        (["merge=ties", "merge.granularity=2"], 6 * 2),
        (["merge=dare_linear", "merge.granularity=module", "optimizer=random"], 6 * 4),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_every_method_and_granularity_runs_to_the_end_and_builds_again(command, tmp_path, words, n_genes):
    assert command(*SMALL[:-1], "budget.generations=1", *words, "hydra.run.dir=run").code == 0
    assert command("recipe=run/recipe.yaml", "out=again", verb="build").code == 0

    with opened(Study.read(tmp_path / "run")) as study:
        assert {len(c.genome) for c in study.candidates()} == {n_genes}
    files = [tmp_path / folder / "model.safetensors" for folder in ("run/model", "again")]
    assert files[0].read_bytes() == files[1].read_bytes()


# -- paths through layers ---------------------------------------------------------------------------------------------------

FEW = ("tracker=none", "task.limit.search=8", "task.limit.test=8", "optimizer.population_size=4")


def test_paths_through_layers_run_to_the_end_and_build_again(command, tmp_path):
    words = [*FEW, "merge=dfs", "budget.generations=2", "hydra.run.dir=run"]
    assert command(*words).code == 0
    assert command("recipe=run/recipe.yaml", "out=again", verb="build").code == 0

    with opened(Study.read(tmp_path / "run")) as study:
        candidates, entrants = study.candidates(), study.entrants()
        assert [(c.stage, c.generation) for c in candidates] == [("", 0)] * 4 + [("", 1)] * 4
        assert all(study.evaluation(c.recipe, "search").scores.shape == (8, 3) for c in candidates)
        assert [(e.role, e.name) for e in entrants] == [
            ("source", "math_a"),
            ("source", "ja"),
            ("unoptimised", "layers stacked, un-optimised"),
            ("baseline", "linear, un-tuned"),
            ("best", "evolved"),
            ("ablation", "evolved, all scales 1"),
        ]
        best, ablated = entrants[-2:]
    assert best.recipe in [c.recipe for c in candidates]
    assert [(step.model, step.layer) for step in ablated.recipe.path] == [(s.model, s.layer) for s in best.recipe.path]
    assert {step.scale for step in ablated.recipe.path} == {1.0}
    assert load(tmp_path / "run" / "recipe.yaml") == best.recipe
    files = [tmp_path / folder / "model.safetensors" for folder in ("run/model", "again")]
    assert files[0].read_bytes() == files[1].read_bytes()
    with safe_open(files[0], "pt") as file:
        assert file.metadata()["recipe"] == (tmp_path / "run" / "recipe.yaml").read_text()
    config = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    assert config["num_hidden_layers"] == len(best.recipe.path)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["merge"], summary["evaluations"]) == ("dfs", 8)


def test_a_hybrid_killed_in_each_of_its_stages_and_between_them_equals_unbroken(command, remembered, tmp_path):
    words = (*FEW, "merge=hybrid", "models.use=[ja,math_a]", "budget.generations=1", "merge.budget={generations: 2}")
    words += ("merge.data_flow.optimizer.population_size=4", "merge.pairs=[[ps,ja],[math_a,ps]]")
    assert command(*words, "hydra.run.dir=whole").code == 0
    whole = tmp_path / "whole"
    with opened(Study.read(whole)) as study:
        turns = [("ps", 0), ("ps>ja", 0), ("math_a>ps", 0), ("ps>ja", 1), ("math_a>ps", 1)]
        met = [(c.stage, c.generation) for c in study.candidates()]
        assert met[:12] == [turn for turn in turns[:3] for _ in range(4)]
        assert set(met[12:]) <= set(turns[3:])  # a pair that is far behind has no second generation
        assert len(met) >= 16
        assert ("stage", "ps, parameter space alone") in [(e.role, e.name) for e in study.entrants()]
        n_baselines = sum(e.role in ("source", "unoptimised", "baseline") for e in study.entrants())

    folder, options = tmp_path / "run", (*words, "hydra.run.dir=run")
    between = "from evo_merge import stages; stages.Hybrid._pair_search = lambda *_: os.kill(os.getpid(), signal.SIGKILL)"
    program = f"import os, signal, sys; {between}; from evo_merge.__main__ import main; sys.exit(main())"
    for n_evaluations in (n_baselines + 2, None, n_baselines + 4 + 2):  # in parameter space, between, among the paths
        begin = ["-m", "evo_merge"] if n_evaluations else ["-c", program]
        process = subprocess.Popen(
            [sys.executable, *begin, *options], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        if n_evaluations:
            wait_for(folder, n_evaluations, process)
            process.kill()
        _, err = process.communicate()
        assert (process.returncode, err) == (-signal.SIGKILL, "")
        with opened(Study.read(folder)) as study:
            stages = {c.stage for c in study.candidates()}
        assert ("ps>ja" in stages) == (n_evaluations == n_baselines + 6)
        options = ("resume=run",)

    assert command("resume=run").code == 0
    assert remembered(folder) == remembered(whole)
    assert (folder / "recipe.yaml").read_bytes() == (whole / "recipe.yaml").read_bytes()
    assert (folder / "model" / "model.safetensors").read_bytes() == (whole / "model" / "model.safetensors").read_bytes()


def test_a_batch_of_problems_for_each_generation_and_validation_chooses(command, tmp_path):
    words = [*FEW, "selection=validation", "task.limit.validation=12", "evaluation.batch=5", "budget.evaluations=9"]
    assert command(*words, "hydra.run.dir=run").code == 0

    with opened(Study.read(tmp_path / "run")) as study:
        candidates = study.candidates()
        assert len(candidates) == 12
        asked = {c.generation: {study.evaluation(c.recipe, c.portion).positions for c in candidates[at : at + 4]}
                 for at, c in ((at, candidates[at]) for at in (0, 4, 8))}  # fmt: skip
        leading = []
        for generation, positions in asked.items():
            ((*batch,),) = positions  # one for all candidates
            assert len(batch) == 5
            scores = [float(study.evaluation(c.recipe, c.portion).fitness[0]) for c in candidates if c.generation == generation]
            leading.append(candidates[4 * generation + int(np.argmax(scores))])
        assert len({c.portion for c in candidates}) == 3
        validated = {c.number for c in candidates if study.is_evaluated(c.recipe, "validation")}
        assert validated == {c.number for c in leading}
        chosen = [float(study.evaluation(c.recipe, "validation").fitness[0]) for c in leading]
        assert float(study.evaluation(candidates[int(study.get("best_number"))].recipe, "validation").fitness[0]) == max(chosen)
        sources = [entrant for entrant in study.entrants() if entrant.role == "source"]
        assert all(len(study.evaluation(entrant.recipe, "search").completions) == 8 for entrant in sources)
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["evaluations"] == 12


def test_a_raced_search_on_the_problems_of_disagreement(command, tmp_path):
    words = ["evaluation.batch=6", "evaluation.subset=disagreement", "evaluation.racing={slices: 2, risk: 0.99, keep: 0.25}"]
    assert command(*FEW, *words, "hydra.run.dir=run").code == 0

    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    with opened(Study.read(tmp_path / "run")) as study:
        candidates = study.candidates()
        full = [study.evaluation(c.recipe, c.portion) for c in candidates if not c.is_stopped]
        assert {len(e.completions) for e in full} == {6}
        assert len({c.portion for c in candidates}) == 1
        asked = sum(len(study.evaluation(c.recipe, c.asked).completions) for c in candidates)
        assert float(study.get("best_number")) in {c.number for c in candidates if not c.is_stopped}
    assert summary["search"]["n"] == 6
    assert summary["search"]["answers"] == asked
    assert summary["search"].get("stopped", {}).get("answers_spared", 0) == 6 * len(candidates) - asked
    assert "batches" not in summary["search"]


FRAGILE = """
from dataclasses import dataclass
from evo_merge.methods.linear import Linear

@dataclass(frozen=True)
class Fragile(Linear):
    def merge(self, tensors, state, noise, *, weight):
        merged = Linear.merge(self, tensors, state, noise, weight=weight)
        return merged / 0 if weight[0] > 0.6 else merged
"""


def test_candidates_that_cannot_be_built_do_not_end_the_run(command, tmp_path, monkeypatch):
    (tmp_path / "fragile.py").write_text(FRAGILE)
    monkeypatch.syspath_prepend(tmp_path)
    words = [*SMALL, "merge=linear", "merge.method._target_=fragile.Fragile", "hydra.run.dir=run"]

    assert command(*words, "allow_code=[fragile.Fragile]").code == 0

    with opened(Study.read(tmp_path / "run")) as study:
        found = [(c.genome[0], study.evaluation(c.recipe, "search")) for c in study.candidates()]
    failures = [evaluation.failure for _, evaluation in found if evaluation.failure is not None]
    assert len(found) == 10
    assert 0 < len(failures) == sum(weight > 0.6 for weight, _ in found)
    assert all("weights are not finite" in reason for reason in failures)
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["failed_candidates"]["count"] == len(failures)


def test_a_run_without_a_candidate_that_can_be_built_says_so(command):
    ended = command(*SMALL[:-1], "budget.generations=1", "merge.bounds.weight=[1e38, 1e39]")

    assert ended.code == 2
    assert ended.err.startswith("evo-merge: no candidate could be built and scored")
    assert ended.err.count("\n") == 1


def test_a_recipe_runs_code_from_elsewhere_only_where_it_is_allowed(command, tmp_path, monkeypatch):
    (tmp_path / "fragile.py").write_text(FRAGILE)
    monkeypatch.syspath_prepend(tmp_path)

    ended = command(*SMALL, "merge=linear", "merge.method._target_=fragile.Fragile", "hydra.run.dir=run")
    assert ended.code == 0  # the command line named it

    refused = command("recipe=run/recipe.yaml", "out=built", verb="build")
    assert refused.code == 2
    assert "fragile.Fragile" in refused.err
    assert "allow_code" in refused.err
    assert command("recipe=run/recipe.yaml", "out=built", "allow_code=[fragile.Fragile]", verb="build").code == 0


def test_a_sweep_runs_every_combination(command, tmp_path):
    ended = command("--multirun", *SMALL[:-1], "budget.generations=1", "merge=dare_ties,ties", "hydra.sweep.dir=sweep")

    assert ended.code == 0
    summaries = [json.loads((tmp_path / "sweep" / str(n) / "summary.json").read_text()) for n in range(2)]
    assert [summary["merge"] for summary in summaries] == ["dare_ties", "ties"]


def test_users_add_their_own_yamls(command, tmp_path):
    own = tmp_path / "mine" / "merge"
    own.mkdir(parents=True)
    text = "_target_: evo_merge.spaces.parameter.ParameterSpace\nmethod: {_target_: evo_merge.methods.linear.Linear, "
    (own / "plain.yaml").write_text(text + "normalize: false}\ngranularity: model\nbounds: {weight: [0.0, 0.5]}\n")

    ended = command(f"--config-dir={tmp_path / 'mine'}", "merge=plain", "plan=true")

    assert ended.code == 0
    assert "genes       3" in ended.out


def test_the_environment_is_offline():
    assert os.environ["HF_HUB_OFFLINE"] == "1"


def test_without_a_step_the_first_generation_of_paths_is_model_a(command, tmp_path):
    words = ["merge=dfs", "optimizer.sigma0=1e-12", "budget.generations=1", "optimizer.population_size=4", "hydra.run.dir=run"]
    small = ["tracker=none", "task.limit.search=30", "task.limit.test=10", "models.data_flow=[ja,math_a]"]
    assert command(*words, *small).code == 0

    with opened(Study.read(tmp_path / "run")) as study:
        sources = {entrant.name: study.evaluation(entrant.recipe, "search") for entrant in study.entrants()}
        scores = [study.evaluation(c.recipe, "search").fitness[0] for c in study.candidates()]
        paths = {tuple((step.model, step.layer) for step in c.recipe.path) for c in study.candidates()}
    assert paths == {tuple(("ja", layer) for layer in range(4))}
    assert sources["ja"].fitness[0] > 0
    assert scores == [sources["ja"].fitness[0]] * 4


def test_a_hybrid_goes_on_with_its_pairs_as_its_report_says_and_not_with_what_they_build_on(command, tmp_path, remembered):
    small = ["tracker=none", "task.limit.search=12", "task.limit.test=10", "merge.pairs=[[ps,ja]]"]
    words = ["merge=hybrid", "budget.evaluations=9", "merge.budget.evaluations=17", "hydra.run.dir=run", *small]
    assert command(*words).code == 0
    before = remembered(tmp_path / "run")
    assert re.search(r"resume=run merge\.budget\.evaluations=\d+", (tmp_path / "run" / "report.html").read_text())

    assert command("resume=run", "budget.evaluations=40").code == 0  # the stage in parameter space is closed
    assert remembered(tmp_path / "run") == before
    assert command("resume=run", "merge.budget.evaluations=30").code == 0
    with opened(Study.read(tmp_path / "run")) as study:
        stages = [c.stage for c in study.candidates()]
    assert (stages.count("ps"), stages.count("ps>ja")) == (9, 34)


def test_a_hybrids_model_is_what_its_recipe_builds_file_by_file(command, tmp_path):
    small = ["tracker=none", "task.limit.search=12", "task.limit.test=10", "merge.pairs=[[math_a,ja]]", "selection=validation"]
    words = ["merge=hybrid", "budget.evaluations=1", "merge.budget.evaluations=30", "task.limit.validation=12"]
    assert command(*words, *small, "hydra.run.dir=run").code == 0
    assert command("recipe=run/recipe.yaml", "out=built", verb="build").code == 0
    made, again = ({p.name: p.read_bytes() for p in (tmp_path / d).iterdir()} for d in ("run/model", "built"))
    assert made.pop("README.md") != again.pop("README.md")  # the card of a run tells of it
    assert made == again


def test_models_that_cannot_share_a_path_stop_a_hybrid_before_it_begins(command, tmp_path):
    family = Path(evo_merge.models.tiny.__file__).parent / "tiny_ja_math"
    for name in ("base", "ja", "math_a"):
        shutil.copytree(family / name, tmp_path / name)
    config = json.loads((tmp_path / "ja" / "config.json").read_text())
    (tmp_path / "ja" / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-4}))
    ended = command("merge=hybrid", "tracker=none", "models=custom", "models.base=base", "models.sources=[ja,math_a]")
    assert ended.code == 2
    assert "no path can run through the layers of these models" in ended.err
    assert "rms_norm_eps: 0.0001 and 1e-06" in ended.err
    assert not list(tmp_path.glob("outputs/*/*"))


def test_a_model_that_does_not_know_all_tokens_of_model_a_is_not_scored_by_itself(command, tmp_path):
    family = Path(evo_merge.models.tiny.__file__).parent / "tiny_ja_math"
    for name in ("ja", "math_a"):
        shutil.copytree(family / name, tmp_path / name)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "math_a")
    tokenizer.add_tokens(["<new>"])
    tokenizer.pad_token = "<new>"
    tokenizer.save_pretrained(tmp_path / "math_a")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "math_a")
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.save_pretrained(tmp_path / "math_a")
    words = ["merge=dfs", "models=custom", "models.sources=[math_a,ja]", "budget.evaluations=1", "tracker=none"]
    ended = command(*words, "task.limit.search=10", "task.limit.test=10", "hydra.run.dir=run")
    assert ended.code == 0
    with opened(Study.read(tmp_path / "run")) as study:
        assert [entrant.name for entrant in study.entrants() if entrant.role == "source"] == ["math_a"]
    assert (
        "'ja' by itself is not scored: it knows fewer tokens than 'math_a'" in (tmp_path / "run" / "evo_merge.log").read_text()
    )
