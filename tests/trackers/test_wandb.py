import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evo_merge.errors import ConfigError
from evo_merge.genome import Gene
from evo_merge.trackers import wandb as module
from evo_merge.trackers.wandb import WandbTracker
from wandb_records import records, rows

OPTIONS = {"project": "p", "entity": None, "name": "n", "group": "g", "mode": "offline", "tags": ["t"]}


@pytest.fixture(autouse=True)
def _no_api_key(monkeypatch, tmp_path_factory):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path_factory.mktemp("home") / "netrc"))


def summary(folder):
    return {
        "/".join(item.nested_key) or item.key: json.loads(item.value_json)
        for record in records(folder)
        if record.HasField("summary")
        for item in record.summary.update
    }


def test_the_record_holds_every_genome_and_fitness(story, tmp_path):
    tracker = WandbTracker("id1", tmp_path, **OPTIONS)
    story.tell(tracker)
    tracker.close()

    told = [candidate for generation in story.generations for candidate in generation.candidates]
    kept = [row for row in rows(tmp_path) if "candidate" in row]
    assert [row["candidate"] for row in kept] == [0, 1, 2, 3, 4, 5]
    for row, candidate in zip(kept, told, strict=True):
        assert [row["gene/weight/ja"], row["gene/density/ja"]] == candidate.genome.tolist()  # to the last bit
        assert row["generation"] == candidate.generation
        assert row["failed"] == (candidate.evaluation.failure is not None)
        assert row["repeated"] == candidate.repeated
        if candidate.evaluation.failure is None:
            assert row["fitness/score"] == candidate.evaluation.fitness[0]
            assert {name: row[f"metric/{name}"] for name in ("score", "correct")} == candidate.evaluation.means
    assert [row["best/score"] for row in kept] == [
        max(c.evaluation.fitness[0] for c in told[: i + 1]) for i in range(len(told))
    ]


def test_a_failed_candidate_has_a_reason_and_no_fitness(story, tmp_path):
    tracker = WandbTracker("id1", tmp_path, **OPTIONS)
    story.tell(tracker)
    tracker.close()

    row = next(row for row in rows(tmp_path) if row.get("candidate") == 1)
    assert row["failure"] == "logits are not finite at new token 1"
    assert not [name for name in row if name.startswith(("fitness/", "metric/"))]
    assert b"Infinity" not in b"".join(record.SerializeToString() for record in records(tmp_path))


def test_a_first_candidate_that_fails_leaves_no_best(story, tmp_path):
    tracker = WandbTracker("id1", tmp_path, **OPTIONS)
    tracker.start(story.start)
    tracker.candidate(story.generations[0].candidates[1])
    tracker.close()

    assert "best/score" not in next(rows(tmp_path))


def test_stages_share_one_run_and_their_genes_have_names_of_their_own(hybrid, tmp_path):
    tracker = WandbTracker("id1", tmp_path, **OPTIONS)
    for part in hybrid:
        part.tell(tracker)
    tracker.close()

    kept = [row for row in rows(tmp_path) if "candidate" in row]
    assert [row["_step"] for row in rows(tmp_path)] == list(range(12))  # nine candidates, three generations
    assert [row["stage"] for row in kept] == ["ps"] * 3 + ["ps>ja"] * 6
    assert [row["generation"] for row in kept] == [0] * 6 + [1] * 3
    genes = [{name for name in row if name.startswith("gene/")} for row in kept]
    assert genes == [{"gene/ps/weight/ja", "gene/ps/density/ja"}] * 3 + [{"gene/ps>ja/cut/1"}] * 6
    told = [candidate for part in hybrid for generation in part.generations for candidate in generation.candidates]
    assert [row["gene/ps>ja/cut/1"] for row in kept[3:]] == [candidate.genome[0] for candidate in told[3:]]
    assert "path" not in kept[0]
    assert {row["path"] for row in kept[3:]} == {"ja.0*1 ja.2*1.25 ja.2*-0.333"}
    best = [row["best/score"] for row in kept if "best/score" in row]
    assert best == sorted(best)  # of the whole run


def test_a_run_with_one_stage_names_none(story, tmp_path):
    tracker = WandbTracker("id1", tmp_path, **OPTIONS)
    story.tell(tracker)
    tracker.close()

    assert not [row for row in rows(tmp_path) if "stage" in row or "path" in row]


def test_thousands_of_genes_are_left_to_the_study(story, tmp_path):
    tracker = WandbTracker("id1", tmp_path, **OPTIONS)
    genes = tuple(Gene(f"scale/{i}", 0.0, 1.0, 0.5) for i in range(513))
    tracker.start(replace(story.start, genes=genes))
    tracker.candidate(replace(story.generations[0].candidates[0], genome=np.zeros(513)))
    tracker.close()

    (row,) = rows(tmp_path)
    assert not [name for name in row if name.startswith("gene/")]
    assert "fitness/score" in row


def test_a_generation_has_best_and_mean_of_its_scored_candidates(story, tmp_path):
    tracker = WandbTracker("id1", tmp_path, **OPTIONS)
    story.tell(tracker)
    tracker.close()

    kept = [row for row in rows(tmp_path) if "generation_failed" in row]
    for row, generation in zip(kept, story.generations, strict=True):
        scores = [c.evaluation.fitness[0] for c in generation.candidates if c.evaluation.failure is None]
        assert row["generation"] == generation.number
        assert row["generation_best/score"] == max(scores)
        assert row["generation_mean/score"] == pytest.approx(sum(scores) / len(scores))
    assert [row["generation_failed"] for row in kept] == [1, 0]


def test_the_parts_of_a_resumed_run_share_an_id_and_their_steps_fit(story, tmp_path):
    first = WandbTracker("id1", tmp_path / "a", **OPTIONS)
    story.tell(first, slice(0, 1))
    first.close()
    second = WandbTracker("id1", tmp_path / "b", **OPTIONS)
    story.tell(second, slice(1, 2))
    second.finish(story.summary, story.files)
    second.close()

    runs = [record.run for part in "ab" for record in records(tmp_path / part) if record.HasField("run")]
    assert {run.run_id for run in runs} == {"id1"}
    steps = [row["_step"] for part in "ab" for row in rows(tmp_path / part)]
    assert steps == list(range(8))  # six candidates, two generations
    exits = [record.exit.exit_code for part in "ab" for record in records(tmp_path / part) if record.HasField("exit")]
    assert exits == [1, 0]  # broken off, then finished


def test_run_config_axes_baselines_summary_and_files_are_kept(story, tmp_path):
    tracker = WandbTracker("id1", tmp_path, **OPTIONS)
    story.tell(tracker)
    tracker.finish(story.summary, story.files)
    tracker.close()

    kept = list(records(tmp_path))
    run = next(record.run for record in kept if record.HasField("run"))
    assert (run.project, run.display_name, run.run_group, list(run.tags)) == ("p", "n", "g", ["t"])
    config = {
        item.key: json.loads(item.value_json) for record in kept if record.HasField("config") for item in record.config.update
    }
    assert config["seed"] == 7
    assert config["merge"] == {"method": {"_target_": "x.DareTies"}}
    axes = {r.metric.glob_name or r.metric.name: r.metric.step_metric for r in kept if r.HasField("metric")}
    assert axes["gene/*"] == axes["fitness/*"] == "candidate"
    assert axes["generation_best/*"] == "generation"
    assert "trainer/global_step" not in axes
    numbers = summary(tmp_path)
    assert numbers["baseline/dare_ties"] == 0.66
    assert numbers["test/best/score"] == 0.875
    assert numbers["test/best/interval"] == [0.843, 0.902]
    artifact = next(record.artifact for record in kept if record.HasField("artifact"))
    assert {entry.path for entry in artifact.manifest.contents} == {"recipe.yaml", "report.html"}


def test_the_console_stays_free(story, tmp_path, capfd):
    tracker = WandbTracker("id1", tmp_path, **{**OPTIONS, "mode": "auto"})
    story.tell(tracker)
    tracker.finish(story.summary, story.files)
    tracker.close()

    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("mode", "variable", "key", "expected"),
    [
        ("auto", None, None, "offline"),
        ("auto", None, "0" * 40, "online"),
        ("auto", "offline", "0" * 40, "offline"),
        ("auto", "disabled", None, "disabled"),
        ("offline", "online", "0" * 40, "offline"),
        ("online", None, "0" * 40, "online"),
    ],
)
def test_the_mode_follows_option_environment_and_key(tmp_path, monkeypatch, mode, variable, key, expected):
    monkeypatch.setattr(module, "_has_api_key", lambda: key is not None)
    if variable:
        monkeypatch.setenv("WANDB_MODE", variable)

    assert WandbTracker("id1", tmp_path, **{**OPTIONS, "mode": mode})._settings.mode == expected


def test_the_key_is_looked_for_where_wandb_does(tmp_path, monkeypatch):
    assert not module._has_api_key()

    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)

    assert module._has_api_key()


def test_online_without_a_key_asks_nobody_and_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_has_api_key", lambda: False)

    with pytest.raises(ConfigError, match="wandb login"):
        WandbTracker("id1", tmp_path, **{**OPTIONS, "mode": "online"})


@pytest.mark.parametrize("wrong", [{"mode": "ofline"}, {"project": "a/b"}])
def test_options_that_wandb_does_not_take_are_named_before_the_search(tmp_path, wrong):
    with pytest.raises(ConfigError, match=r"mode|project"):
        WandbTracker("id1", tmp_path, **{**OPTIONS, **wrong})


def test_disabled_keeps_nothing_and_takes_everything(story, tmp_path):
    tracker = WandbTracker("id1", tmp_path, **{**OPTIONS, "mode": "disabled"})
    story.tell(tracker)
    tracker.finish(story.summary, story.files)
    tracker.close()

    assert not (tmp_path / "wandb").exists()


def test_a_failure_of_wandb_is_one_warning_and_no_end(story, tmp_path, monkeypatch, caplog):
    tracker = WandbTracker("id1", tmp_path, **OPTIONS)
    tracker.start(story.start)
    run = tracker._logger.experiment

    def broken(*_: object, **__: object) -> None:
        raise BrokenPipeError("service is gone")

    with monkeypatch.context() as patch:
        patch.setattr(type(run), "log", broken)
        for generation in story.generations:
            for candidate in generation.candidates:
                tracker.candidate(candidate)
            tracker.generation(generation)
        tracker.finish(story.summary, story.files)
        tracker.close()
    run.finish()

    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == [
        "W&B hears no more of this run (the search goes on): service is gone"
    ]


def test_each_run_of_a_process_is_kept_below_the_folder_it_was_started_in(story, tmp_path, monkeypatch):
    for name in ("first", "second"):  # W&B's service is started by the first, and stays where it was started
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        tracker = WandbTracker(name, Path("run"), **OPTIONS)
        story.tell(tracker)
        tracker.close()

        assert [row["candidate"] for row in rows(tmp_path / name / "run") if "candidate" in row] == [0, 1, 2, 3, 4, 5]


def test_a_tracker_that_never_started_closes(tmp_path):
    WandbTracker("id1", tmp_path, **OPTIONS).close()
    assert list(tmp_path.iterdir()) == []
