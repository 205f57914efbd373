"""The commands as they are typed: what goes wrong is one sentence on stderr and exit code 2, without a traceback."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

from evo_merge import ask
from evo_merge.models import tiny
from evo_merge.report import __main__ as report

FEW = ("tracker=none", "task.limit.search=6", "task.limit.test=6", "budget.generations=1")


def assert_refused(ended, *parts):
    """The command was refused with one sentence, or one for each of several reasons, that have all the parts."""
    assert ended.code == 2
    sentence, *reasons = ended.err.splitlines()
    assert sentence.startswith("evo-merge: ")
    assert all(reason.startswith("- ") for reason in reasons)
    for part in parts:
        assert part in ended.err
    assert "Traceback" not in ended.out


# -- words that are wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["merge=dare_tie"], ["merge=dare_tie", "did you mean 'dare_ties'?"]),
        (["optimizer=cmae"], ["optimizer=cmae", "did you mean 'cmaes'?"]),
        (["task=mgsm"], ["task=mgsm", "did you mean 'mgsm_ja'?"]),
        (["generator=vlm"], ["generator=vlm", "did you mean 'vllm'?"]),
        (["experiment=evollm_jp_7bb"], ["did you mean 'evollm_jp_7b'?"]),
        (["models=null"], ["models=null", "there are custom, evollm_jp"]),
        (["merge=3"], ["merge=3", "dare_ties"]),
        (["tracker=null"], ["tracker=null", "none, wandb"]),
        (["optimizer.sigma=0.1"], ["'optimizer.sigma'", "did you mean 'optimizer.sigma0'?"]),
        (["+optimizer.sigma=0.1"], ["optimizer.sigma: CMAES takes no such key; did you mean 'sigma0'?"]),
        (["~optimizer.sigma"], ["'optimizer.sigma'", "did you mean 'optimizer.sigma0'?"]),
        (["task.limit.serch=3"], ["did you mean 'task.limit.search'?"]),
        (["merge.bounds={wieght: [0, 2]}"], ["'merge.bounds.wieght'", "did you mean 'merge.bounds.weight'?"]),
        (
            ["merge=slerp", "merge.select_sources=true"],
            ["merge=slerp has none; breadcrumbs, ", "task_arithmetic, ties, tsv, wudi have it"],
        ),
        (["merge=dfs", "merge.select_sources=true"], ["'merge.select_sources'", "merge=dfs has none; breadcrumbs, "]),
        (["optimizer=random", "optimizer.quality=0"], ["optimizer=random has none; map_elites has it"]),
        (
            ["task=several", "+task@task.parts.ja=tiny_ja_math", "task.limit.search=3", "task.limit.test=3"],
            ["'task.limit'", "each part of task=several has its own: task.parts.ja.limit.search"],
        ),
        (["task=several", "task.limit.search=3"], ["task.parts.<name>.limit.search"]),
        (["sed=1"], ["'sed'", "did you mean 'seed'?"]),
        (["merg=ties"], ["'merg'", "did you mean 'merge'?"]),
        (["xyz.abc=1"], ["no option 'xyz", "there are", "seed"]),
        (["task.limit=[1"], ["'task.limit=[1' cannot be read"]),
        (["seed"], ["'seed' cannot be read; write key=value"]),
        (["=3"], ["write key=value"]),
        (["budget.evaluations=abc"], ["budget.evaluations", "'abc'"]),
        (["budget.minutes=soon"], ["budget.minutes", "'soon'"]),
        (["budget.evaluations=0"], ["budget.evaluations must be above 0 or null, got 0"]),
        (["budget.evaluations=null"], ["the budget has no limit"]),
        (["budget=null"], ["budget"]),
        (["optimizer.sigma0=abc"], ["optimizer.sigma0 must be a number, got 'abc'"]),
        (["optimizer.sigma0=-1"], ["optimizer.sigma0 must be above 0, got -1"]),
        (["optimizer.startup_trial=3"], ["optimizer.startup_trial must be true or false, got 3"]),
        (["seed=-1"], ["seed must be 0 or above, got -1"]),
        (["seed=one"], ["seed", "'one'"]),
        (["selection=foo"], ["selection must be one of search, validation, got 'foo'"]),
        (["plan=maybe"], ["plan", "'maybe'"]),
        (["merge.method=null"], ["merge.method must be MergeMethod, got None"]),
        (
            ["merge.granularity=foo"],
            ["merge.granularity must be model or layer or module or a whole number or a mapping, got 'foo'"],
        ),
        (["merge.granularity=99"], ["merge.granularity: 99 groups, but there are 6 layers"]),
        (["merge.bounds.weight=[1, 0]"], ["merge.bounds.weight must be [low, high] with low < high"]),
        (["merge.bounds.weight=3"], ["merge.bounds.weight must be [low, high] with low < high"]),
        (["merge._target_=no.such"], ["merge._target_: 'no.such' cannot be imported"]),
        (["generator.batch_size=0"], ["generator.batch_size must be at least 1, got 0"]),
        (["models.use=[ja,jo]"], ["models.use: there is no source 'jo'; there are ja, math_a, math_b"]),
        (["models.base=3"], ["models.base must be a text or a mapping or null, got 3"]),
        (["merge=dfs", "models.data_flow=[ja]"], ["runs through the layers of two models or more", "models.data_flow=[a,b]"]),
        (
            ["merge=dfs", "models.data_flow=[ja,jo]"],
            ["models.data_flow: there is no source 'jo'; there are ja, math_a, math_b"],
        ),
        (["merge=dfs", "merge.max_hops=3"], ["merge.max_hops must be at least 4, the layers of 'math_a'"]),
        (["merge=dfs", "merge.scale_target=mlp"], ["merge.scale_target must be one of residual, branch, got 'mlp'"]),
        (["merge=dfs", "merge/encoding=slot"], ["merge/encoding=slot: there is no such choice; did you mean 'slots'?"]),
        (["merge=dfs", "merge/encoding=slots"], ["optimizer=cmaes moves real genes only", "optimizer=catcma"]),
        (["merge=dfs", "merge/encoding=slots", "optimizer=cmaes_evojax"], ["optimizer=cmaes_evojax moves real genes only"]),
        (["merge=dfs", "merge.encoding.repetition=3"], ["did you mean 'merge.encoding.repetitions'?"]),
        (["merge=hybrid", "merge.pairs=[[ps,jo]]"], ["merge.pairs: there is no model 'jo'; there are ps, ja, math_a, math_b"]),
        (["merge=hybrid", "merge.pairs=[]"], ["merge.pairs must name at least one pair"]),
        (["merge=hybrid", "merge.trial=0"], ["merge.trial must be at least 1, got 0"]),
        (["merge=hybrid", "merge.budget.evaluations=null"], ["merge.budget: the budget has no limit"]),
        (["merge=hybrid", "+merge.parameter.ps.optimiser=null"], ["merge.parameter.ps: there is no option 'optimiser'"]),
        (["merge=hybrid", "+merge.parameter.ja={space: null}"], ["a stage cannot be called 'ja'"]),
        (["merge=hybrid", "optimizer.sigma0=-1"], ["evo-merge: optimizer.sigma0 must be above 0, got -1"]),
        (["merge=hybrid", "merge.data_flow.optimizer.sigma0=-1"], ["optimizer.sigma0 must be above 0, got -1"]),
        (["evaluation.batch=5"], ["set selection=validation besides"]),
        (["evaluation.batch=many"], ["evaluation.batch", "'many'"]),
        (["evaluation.racing=true", "optimizer=ga"], ["GeneticAlgorithm holds scores of different generations", "racing=null"]),
        (["evaluation.racing=true", "optimizer=de"], ["DifferentialEvolution holds scores of different generations"]),
        (["evaluation.racing=true", "constraints={brevity: -60}"], ["whether they keep to constraints is known only of all"]),
        (
            ["evaluation.racing=true", "objectives=[accuracy,brevity]", "scalarize=weighted_sum"],
            ["evaluation.racing takes one objective, and there are 2 (accuracy, brevity)"],
        ),
        (["merge=slerp"], ["merge=slerp merges exactly 2 sources, got 3 (ja, math_a, math_b)", "models.use"]),
        (["models.base=/nowhere"], ["there is no model folder '/nowhere'"]),
        (["models=smollm2_ja_math"], ["models.adapters is not set", "models.adapters=DIR"]),
        (["task=jp_lmeh_free", "models=tiny_ja_math"], ["task.data is not set", "task.data=DIR"]),  # for its parts
        (["generator.degenerate=5"], ["generator.degenerate must be null or say", "got 5"]),
        (["task=question_answer"], ["models.sources is not set; choose a pool with models=<name>"]),
        (["task=question_answer", "models=tiny_ja_math"], ["no search examples", "task.files.search=FILE"]),
        (["task=mgsm_ja"], ["cannot be had from the hub", "task.files.search=FILE"]),
        (["trainer.accelerator=abacus"], ["trainer", "abacus"]),
        (["resume=/nowhere"], ["resume: '/nowhere' holds no run", "study.sqlite"]),
        (["resume=.", "--multirun"], ["leave out --multirun"]),
        (["merge=dare_ties,ties"], ["merge=dare_ties,ties", "--multirun"]),
        (["--multirun", "merge=dare_ties,tie"], ["merge=tie", "did you mean 'ties'?"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_wrong_word_is_one_sentence(command, words, parts, tmp_path):
    assert_refused(command(*words), *parts)
    assert not list(tmp_path.rglob("study.sqlite"))


@pytest.mark.parametrize(
    ("verb", "word", "meant"),
    [
        ("build", "merge.yml", "did you mean recipe=merge.yml?"),
        ("build", "my merges/merge.yml", "did you mean 'recipe=my merges/merge.yml'?"),
        ("from_evolve", "genome.yml", "did you mean genome=genome.yml?"),
        ("evaluate", "./merged", "did you mean model=./merged?"),
        ("calibrate", "texts.jsonl", "did you mean data=texts.jsonl?"),
        ("check", "models", "write key=value"),
    ],
)
def test_a_file_named_alone_is_told_its_option(command, verb, word, meant):
    assert_refused(command(word, "out=made", verb=verb), f"'{word}'", meant)


WRONG_DENSITY = """\
merge_method: ties
base_model: base
models:
- model: a
  parameters: {weight: 1, density: 1.5}
"""


@pytest.mark.parametrize(
    ("verb", "words", "said", "spared"),
    [
        ("build", ["recipe=none.yml", "out=x"], "cannot read the recipe 'none.yml'", "torch"),
        ("build", ["recipe=merge.yml", "out=x"], "'merge.yml', line 5: 'density' is a share from 0 to 1", "torch"),
        ("__main__", ["seed=-1"], "seed must be 0 or above", "torch"),
        ("__main__", ["budget.evaluations=0"], "budget.evaluations must be above 0", "torch"),
        ("__main__", ["merge.granularity=foo"], "merge.granularity must be model or layer", "transformers"),
        ("__main__", ["optimizer.sigma0=abc"], "optimizer.sigma0 must be a number", "scipy.stats"),
        ("evaluate", ["run=none"], "'none' holds no run", "torch"),
        ("evaluate", ["model=./none"], "there is no model folder './none'", "transformers"),
        ("check", ["models=custom", "models.base=./none", "models.sources=[./none]"], "not_found", "pytorch_lightning"),
    ],
)
def test_what_is_seen_without_a_library_is_said_before_it_is_imported(tmp_path, verb, words, said, spared):
    (tmp_path / "merge.yml").write_text(WRONG_DENSITY)
    code = f"import sys; from evo_merge.{verb} import main; code = main(); print('{spared}' in sys.modules); sys.exit(code)"
    ended = subprocess.run([sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert ended.stdout.splitlines()[-1] == "False"


def test_a_wrong_value_in_a_sweep_stops_its_own_job_only(command, tmp_path):
    ended = command("--multirun", "seed=one,2", "hydra.sweep.dir=sweep", *FEW)

    assert_refused(ended, "seed", "'one'")
    assert not (tmp_path / "sweep" / "0" / "study.sqlite").exists()
    assert (tmp_path / "sweep" / "1" / "summary.json").exists()


def test_an_interrupt_stops_a_whole_sweep(command, tmp_path, monkeypatch):
    from evo_merge.errors import Interrupted
    from evo_merge.evaluation.evaluator import Evaluator

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Evaluator, "evaluate", stop)
    ended = command("--multirun", "seed=1,2", "hydra.sweep.dir=sweep", *FEW)

    assert not issubclass(Interrupted, Exception)
    assert ended.code == 130
    assert ended.err.count("continue with  python -m evo_merge resume=sweep/0") == 1
    assert not (tmp_path / "sweep" / "1").exists()


def test_in_a_process_of_its_own_there_is_no_traceback_either(tmp_path):
    words = [sys.executable, "-m", "evo_merge", "merge=dare_tie"]
    ended = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert ended.returncode == 2
    assert ended.stderr == "evo-merge: merge=dare_tie: there is no such choice; did you mean 'dare_ties'?\n"
    assert not list(tmp_path.iterdir())


def test_a_source_that_licences_leave_alone_is_not_merged_with_itself(command, tmp_path):
    family = Path(tiny.__file__).parent / "tiny_ja_math"
    other = shutil.copytree(family / "math_a", tmp_path / "other")
    (other / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    words = ["models.licences=permissive", f"models.sources=[{family / 'ja'}, {other}]", "plan=true"]

    ended = command("merge=linear", *words)
    assert ended.code == 2
    assert "leaves 'ja' alone (left out: other), and without a base there is nothing to merge it with" in ended.err
    assert command("merge=ties", *words).code == 0  # between the base and a source there is something


@pytest.mark.parametrize("words", [["--help"], ["--cfg", "job"]])
def test_a_reader_that_goes_away_ends_it_quietly(tmp_path, words):
    process = subprocess.Popen(
        [sys.executable, "-m", "evo_merge", *words], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141


def test_help_imports_nothing_slow():
    program = (
        "import sys; sys.argv = ['evo-merge', '--help']\n"
        "from evo_merge.__main__ import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "slow = {'torch', 'transformers', 'pytorch_lightning', 'wandb', 'numpy'} & set(sys.modules)\n"
        "assert not slow, slow"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert (ended.returncode, ended.stderr) == (0, "")
    for word in ("merge", "optimizer", "dare_ties", "cmaes"):
        assert word in ended.stdout


# -- models that cannot be merged ------------------------------------------------------------------------------------------


@pytest.fixture
def own(pico):
    """Three folders and the words that name them."""
    base, first, second = pico("base"), pico("first", seed=1), pico("second", seed=2)
    return base, first, second, ["models=custom", f"models.base={base}", f"models.sources=[{first},{second}]", *FEW]


def test_own_folders_run_to_the_end(command, own, tmp_path):
    named = ["models=custom", "models.base=base", "models.sources=[./first,second]", *FEW]
    ended = command(*named, "hydra.run.dir=run")

    assert ended.code == 0
    for recipe in ("recipe.yaml", "model/recipe.yaml"):  # right in any folder
        assert all(f"model: {folder}," in (tmp_path / "run" / recipe).read_text() for folder in own[:3])
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert set(summary["test"]["sources"]) == {"first", "second"}


def test_a_source_without_a_tokenizer_merges_with_a_warning(command, own, tmp_path):
    for file in own[1].glob("tokenizer*"):
        file.unlink()

    assert command(*own[3], "hydra.run.dir=run").code == 0
    assert re.search(r"WARNING.*'first' .*has no tokenizer", (tmp_path / "run" / "evo_merge.log").read_text())


def test_pickled_weights_are_refused(command, own):
    (own[1] / "model.safetensors").unlink()
    (own[1] / "pytorch_model.bin").write_bytes(b"\x80\x04.")

    assert_refused(command(*own[3]), str(own[1]), "pickled weights (.bin, .pt)", "refused", "safetensors")


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_truncated_file_is_named(command, own, keep):
    file = own[2] / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])

    assert_refused(command(*own[3]), str(file), "is truncated or corrupted")


def test_all_differences_are_in_one_report(command, pico):
    base = pico("base")
    wide, deep = pico("wide", intermediate_size=32, num_key_value_heads=1), pico("deep", num_hidden_layers=3)
    tokens = deep / "tokenizer.json"
    tokens.write_text(tokens.read_text().replace('"Hanako"', '"Hanae"'))

    ended = command("models=custom", f"models.base={base}", f"models.sources=[{wide},{deep}]", *FEW)

    assert_refused(ended, "'wide'", "num_key_value_heads: 1 and 2", "intermediate_size: 32 and 16")
    assert_refused(ended, "'deep'", "num_hidden_layers: 3 and 2", "tokens in one alone: 'Hanae', 'Hanako'")


def test_models_whose_layers_do_not_fit_each_other_are_refused(command, pico, tmp_path):
    one, wide, deep = pico("one"), pico("wide", hidden_size=32), pico("deep", num_hidden_layers=3)
    words = ["models=custom", "merge=dfs", *FEW]

    ended = command(*words, f"models.sources=[{one},{deep},{wide}]")
    assert_refused(ended, "no path can run", "'wide'", "hidden_size: 32 and 16")
    assert "'deep'" not in ended.err
    assert not list(tmp_path.rglob("study.sqlite"))

    # What cannot be mixed may still be run through.
    assert command(*words, f"models.sources=[{one},{deep}]", "merge/scales=none", "hydra.run.dir=run").code == 0
    assert re.search(r"WARNING.*'deep' .*num_hidden_layers: 3 and 2", (tmp_path / "run" / "evo_merge.log").read_text())
    assert "linear, un-tuned" not in (tmp_path / "run" / "summary.json").read_text()


def test_another_architecture_is_named(command, pico):
    from transformers import GPT2Config, GPT2LMHeadModel

    base, other = pico("base"), pico("other")
    shutil.rmtree(other)
    GPT2LMHeadModel(GPT2Config(vocab_size=136, n_embd=16, n_layer=1, n_head=2, n_positions=64)).save_pretrained(other)

    ended = command("models=custom", f"models.base={base}", f"models.sources=[{other}]", *FEW)
    assert_refused(ended, "model_type: gpt2 and llama")


def test_nan_in_a_source_is_named_with_its_tensor(command, own, tmp_path):
    file = own[2] / "model.safetensors"
    tensors = load_file(file)
    tensors["model.norm.weight"][3] = float("nan")
    save_file(tensors, file, metadata={"format": "pt"})

    assert_refused(command(*own[3]), "'second'", "'model.norm.weight'", "NaN")
    assert not list(tmp_path.rglob("summary.json"))


def test_too_little_memory_is_said_before_the_run_begins(command, own, monkeypatch, tmp_path):
    real = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: real._replace(available=20_000))

    assert_refused(command(*own[3]), "one candidate takes", "of memory", "are free")
    assert not list(tmp_path.rglob("study.sqlite"))


def test_too_little_disk_is_said_before_the_run_begins(command, own, monkeypatch, tmp_path):
    real = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: real._replace(free=1000))

    assert_refused(command(*own[3]), "the merged model takes", "on disk")
    assert not list(tmp_path.rglob("study.sqlite"))


# -- data that cannot be used ----------------------------------------------------------------------------------------------


def lines(path, *rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def asked(search, test):
    return ["task=question_answer", "models=tiny_ja_math", f"task.files.search={search}", f"task.files.test={test}"]


ROWS = [{"question": f"{n}たす1は？", "answer": n + 1} for n in range(4)]


def test_an_own_task_runs_to_the_end(command, tmp_path):
    search, test = lines(tmp_path / "search.jsonl", *ROWS[:2]), lines(tmp_path / "test.jsonl", *ROWS[2:])

    words = ["tracker=none", "budget.generations=1", "task.max_new_tokens=8", "hydra.run.dir=run"]
    assert command(*asked(search, test), *words).code == 0
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["test"]["n"] == 2


def test_an_empty_data_file_is_named(command, tmp_path):
    test = lines(tmp_path / "test.jsonl", *ROWS)

    assert_refused(command(*asked(lines(tmp_path / "empty.jsonl"), test)), "empty.jsonl", "has no rows")


def test_a_row_without_an_answer_is_named_with_file_and_line(command, tmp_path):
    search = lines(tmp_path / "search.jsonl", ROWS[0], ROWS[1], {"question": "いくつ？"})

    assert_refused(command(*asked(search, search)), f"'{search}', line 3", "needs an answer")


def test_a_missing_data_file_is_named(command, tmp_path):
    assert_refused(command(*asked("none.jsonl", "none.jsonl")), "task.files.search", "there is no file 'none.jsonl'")


def test_overlapping_splits_are_refused_unless_allowed(command, tmp_path):
    search = lines(tmp_path / "search.jsonl", *ROWS[:3])
    test = lines(tmp_path / "test.jsonl", ROWS[3], {"question": " ２たす1は? ", "answer": 3})
    words = [*asked(search, test), "plan=true"]

    assert_refused(command(*words), "1 of the 2 of 'test' are also in 'search'", "task.allow_overlap=true")
    assert command(*words, "task.allow_overlap=true").code == 0


# -- plan, resume and second starts ----------------------------------------------------------------------------------------


def test_the_plan_says_what_a_run_will_need_and_starts_none(command, tmp_path):
    ended = command("plan=true", "merge.bounds={weight: [-0.5, 1.5]}", "budget.evaluations=50")

    assert (ended.code, ended.err) == (0, "")
    plan = dict(re.match(r"(\w+)\s+(.*)", line).groups() for line in ended.out.splitlines() if line[0] != " ")
    assert {"genes", "candidates", "memory", "disk", "time"} <= set(plan)
    assert plan["genes"].startswith("6: weight/ja")
    assert "50" in plan["candidates"]
    assert re.search(r"[\d.]+ [GM]B", plan["memory"])
    assert re.search(r"[\d.]+ [GM]B", plan["disk"])
    assert re.search(r"[\d.]+ (s|min|h) a candidate.*[\d.]+ (s|min|h) for the run", plan["time"])
    assert not list(tmp_path.rglob("study.sqlite"))


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A small finished run."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    words = [sys.executable, "-m", "evo_merge", *FEW, f"hydra.run.dir={folder}"]
    ended = subprocess.run(words, capture_output=True, text=True, cwd=folder.parent, check=False)
    assert ended.returncode == 0, ended.stderr
    return folder


@pytest.mark.parametrize(
    "word", ["seed=2", "merge=ties", "models.use=[ja]", "selection=validation", "task.limit.test=3", "~seed"]
)
def test_resume_takes_only_budget_tracker_and_trainer(command, finished, word):
    key = word.lstrip("~").split("=")[0]

    assert_refused(command(f"resume={finished}", word), f"resume takes '{key}' from the run", "budget.*, a hybrid's", "export")


def test_a_resumed_run_can_be_planned(command, finished):
    before = (finished / "study.sqlite").read_bytes()

    ended = command(f"resume={finished}", "budget.generations=50", "plan=true")

    assert ended.code == 0
    assert "50 generations" in ended.out
    assert (finished / "study.sqlite").read_bytes() == before


def test_resume_changes_single_options_of_the_tracker(command, finished):
    assert_refused(command(f"resume={finished}", "tracker=wandb", "tracker.mode=nowhere"), "mode")


def test_resume_of_another_folder_is_refused(command, tmp_path):
    assert_refused(command(f"resume={tmp_path}"), str(tmp_path), "holds no run")
    (tmp_path / "study.sqlite").write_bytes(b"something else")
    assert_refused(command(f"resume={tmp_path}"), "is not the record of a run")


def test_a_second_start_in_the_same_folder_is_refused(command, finished):
    before = {file: file.stat().st_mtime_ns for file in finished.rglob("*") if file.is_file()}

    assert_refused(command(*FEW, f"hydra.run.dir={finished}"), f"'{finished}' already holds a run", "resume=")
    assert_refused(command("--multirun", *FEW, "seed=1,2", f"hydra.sweep.dir={finished.parent}"), "already holds a run")

    assert {file: file.stat().st_mtime_ns for file in finished.rglob("*") if file.is_file()} == before


# -- the other commands ----------------------------------------------------------------------------------------------------


def test_build_makes_the_same_checkpoint_again(command, finished, tmp_path):
    assert command(f"recipe={finished / 'recipe.yaml'}", "out=again", verb="build").code == 0

    again, first = tmp_path / "again", finished / "model"
    assert (again / "model.safetensors").read_bytes() == (first / "model.safetensors").read_bytes()
    assert {file.name for file in first.iterdir()} == {file.name for file in again.iterdir()}
    card = ModelCard.load(again / "README.md")
    assert card.data.license == "apache-2.0"
    assert not card.data.eval_results
    assert yaml.safe_load(card.content.split("```yaml")[1].split("```")[0]) == yaml.safe_load(
        (finished / "recipe.yaml").read_text()
    )
    for source in ("`builtin:tiny_ja_math/ja`", "`builtin:tiny_ja_math/math_a`", "nothing was measured here"):
        assert source in card.content
    assert_refused(command(f"recipe={finished / 'recipe.yaml'}", "out=again", verb="build"), "'again' exists and is not empty")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([], ["recipe is not set", "recipe=FILE out=DIR"]),
        (["recipe=none.yaml", "out=x"], ["cannot read the recipe 'none.yaml'"]),
        (["recipe=none.yaml"], ["out is not set"]),
        (["recipi=x"], ["did you mean 'recipe'?"]),
    ],
)
def test_build_refuses_in_one_sentence(command, words, parts):
    assert_refused(command(*words, verb="build"), *parts)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"method": {"name": "dare_tie"}}, ["dare_tie"]),
        ({"method": {"name": "os.system"}}, ["os.system"]),
        ({"method": {"name": "dare_ties", "rescal": "none"}}, ["rescal"]),
        ({"kind": "magic"}, ["kind", "magic"]),
        ({"base": None}, ["base"]),
        ({"parameters": []}, ["parameters"]),
        ({"parameters": [{"tensors": "*", "weight": [1.0], "density": [1.0]}]}, ["weight", "3"]),
        ({"out_dtype": "int8"}, ["out_dtype", "int8"]),
        ({"extra": 1}, ["extra"]),
    ],
)
def test_build_refuses_a_recipe_that_cannot_be_built(command, finished, tmp_path, change, parts):
    record = yaml.safe_load((finished / "recipe.yaml").read_text())
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(record | change))

    assert_refused(command("recipe=r.yaml", "out=built", verb="build"), *parts)
    assert not (tmp_path / "built").exists()


def test_evaluate_scores_a_folder_and_its_recipe_the_same(command, finished, tmp_path):
    words = ["task.limit.test=20", "out=verdicts.jsonl"]
    for name, model in (("folder", finished / "model"), ("recipe", finished / "recipe.yaml")):
        ended = command(f"model={model}", *words, verb="evaluate")
        assert ended.code == 0
        assert re.match(r"tiny_ja_math test: [\d.]+ % \[.*\] of 20 ", ended.out)
        (tmp_path / "verdicts.jsonl").rename(tmp_path / name)

    rows = [json.loads(line) for line in (tmp_path / "folder").read_text().splitlines()]
    assert len(rows) == 20
    assert set(rows[0]) == {"id", "completion", "number", "correct", "language_ok", "score"}
    assert (tmp_path / "folder").read_text() == (tmp_path / "recipe").read_text()


def test_evaluate_scores_all_models_of_a_run_as_the_run_did(command, finished):
    ended = command(f"run={finished}", "task.limit.test=6", verb="evaluate")

    assert ended.code == 0
    test = json.loads((finished / "summary.json").read_text())["test"]
    compared = test["sources"] | test["unoptimised"] | {"evolved": test["best"]}
    for name, entry in compared.items():
        assert f"tiny_ja_math test, {name}: {100 * entry['score']:.1f} % [" in ended.out


def test_evaluate_judges_saved_completions_as_it_did_the_models(command, finished, tmp_path):
    command("model=builtin:tiny_ja_math/ja", "task.limit.test=20", "out=first.jsonl", verb="evaluate")
    from evo_merge.study import Study, opened

    with opened(Study.read(finished)) as study:
        answers = {example.id: example.answer for example in study.examples("test")}
    verdicts = [json.loads(line) for line in (tmp_path / "first.jsonl").read_text().splitlines()][: len(answers)]
    lines(
        tmp_path / "saved.jsonl",
        *[{"id": v["id"], "answer": answers[v["id"]], "completion": v["completion"]} for v in verdicts],
    )

    ended = command("completions=saved.jsonl", "out=second.jsonl", "task.limit.test=6", verb="evaluate")

    assert ended.code == 0
    again = [json.loads(line) for line in (tmp_path / "second.jsonl").read_text().splitlines()]
    assert [{"completion": v["completion"], **a} for v, a in zip(verdicts, again, strict=True)] == verdicts


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([], ["name one of model=DIR", "completions=FILE.jsonl"]),
        (["model=a", "completions=b"], ["name one of model=DIR", "completions=FILE.jsonl"]),
        (["completions=none.jsonl"], ["completions need out=FILE.jsonl"]),
        (["completions=none.jsonl", "out=x"], ["completions: there is no file 'none.jsonl'"]),
        (["run=/nowhere"], ["'/nowhere' holds no run"]),
        (["model=/nowhere"], ["there is no model folder '/nowhere'"]),
        (["model=none.yaml"], ["cannot read the recipe 'none.yaml'"]),
        (["model=builtin:tiny_ja_math/jo"], ["there is no embedded model", "builtin:tiny_ja_math/ja"]),
        (["model=builtin:tiny_ja_math/ja", "split=tset"], ["split must be one of search, validation, test, got 'tset'"]),
        (["model=builtin:tiny_ja_math/ja", "task=question_answer"], ["no test examples", "task.files.test=FILE"]),
        (["modl=x"], ["did you mean 'model'?"]),
        (["task=tiny_math"], ["did you mean 'tiny_ja_math'?"]),
    ],
)
def test_evaluate_refuses_in_one_sentence(command, words, parts):
    assert_refused(command(*words, verb="evaluate"), *parts)


def test_ask_prints_the_answers_of_the_sources_and_the_merge(finished, capsys):
    assert ask.main([str(finished), "りんごが3個あります。2個買うと何個ですか？"]) == 0

    out = capsys.readouterr().out
    assert re.findall(r"^(\w+)\n    \S", out, flags=re.MULTILINE) == ["ja", "math_a", "math_b", "evolved"]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([], "give a run folder and a question"),
        (["a", "b", "c"], "give a run folder and a question"),
        (["/nowhere", "いくつ？"], "'/nowhere' holds no run"),
        (["/nowhere", "  "], "the question is empty"),
    ],
)
def test_ask_refuses_in_one_sentence(arguments, part, capsys):
    assert ask.main(arguments) == 2

    (sentence,) = capsys.readouterr().err.splitlines()
    assert part in sentence


def test_report_writes_the_same_report_again(finished, capsys, tmp_path):
    copy = shutil.copytree(finished, tmp_path / "copy")
    first = json.loads((copy / "summary.json").read_text())
    for file in ("summary.json", "report.html"):
        (copy / file).unlink()

    assert report.main([str(copy)]) == 0

    again = json.loads((copy / "summary.json").read_text())
    assert again | {"seconds": 0} == first | {"seconds": 0}  # of the run; the first report was written before its end
    assert "<html" in (copy / "report.html").read_text(encoding="utf-8")
    assert str(copy / "report.html") in capsys.readouterr().out
    assert report.main([str(tmp_path / "nowhere")]) == 2
    assert "holds no run" in capsys.readouterr().err


def test_the_exported_model_loads_anywhere(finished):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(finished / "model")
    tokenizer = AutoTokenizer.from_pretrained(finished / "model")

    ids = tokenizer("Q: 1たす1は？\nA: ", return_tensors="pt").input_ids
    assert torch.isfinite(model(ids).logits).all()
    assert Path(finished / "model" / "generation_config.json").is_file()
