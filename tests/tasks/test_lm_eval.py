"""``task=lm_eval``: what the harness itself finds for the same model, which problems are whose, and what is refused."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from pytorch_lightning import Trainer
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from evo_merge.errors import ConfigError, DataError
from evo_merge.evaluation.evaluator import Evaluator
from evo_merge.evaluation.hf import HuggingFaceGenerator
from evo_merge.tasks import tiny_world
from evo_merge.tasks.base import Decoding, Example, Likelihoods, LogLikelihood, Portion
from evo_merge.tasks.lm_eval import LmEval

pytest.importorskip("lm_eval")

FAMILY = Path(__file__).parents[2] / "src" / "evo_merge" / "models" / "tiny" / "tiny_ja_math"
SIZES = {"train": 12, "validation": 6, "test": 8}
ASK = {"doc_to_text": "Q: {{question}}\nA:", "doc_to_target": "{{answer}}"}
CHOICE = {"output_type": "multiple_choice", "doc_to_text": "Q: {{question}}\nA:", "doc_to_choice": "{{choices}}"}
MEAN = {"aggregation": "mean", "higher_is_better": True}
LAST_NUMBER = {"function": "regex", "regex_pattern": "([0-9]+)", "group_select": -1}
FIRST = {"function": "take_first"}
TASKS: dict[str, dict[str, Any]] = {
    "choice": {
        **CHOICE,
        "doc_to_target": "{{right}}",
        "num_fewshot": 2,
        "metric_list": [{"metric": m, **MEAN} for m in ("acc", "acc_norm", "acc_mutual_info")]
        + [{"metric": "mcc", "aggregation": "matthews_corrcoef", "higher_is_better": True}],
    },
    # As winogrande: the choices are contexts, and what follows is the same.
    "contexts": {
        **CHOICE,
        "doc_to_text": "{{right}}",
        "doc_to_choice": '{{["Q: " + question + "\nA: " + choices[0], "Q: " + question + "\nA: " + choices[1]]}}',
        "doc_to_target": "個です。",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc", **MEAN}],
    },
    "written": {
        **ASK,
        "doc_to_text": "Q: {{question}}\nA: ",
        "output_type": "generate_until",
        "generation_kwargs": {"until": ["Q:", "答えは"], "max_gen_toks": 24, "do_sample": False, "temperature": 0.0},
        "repeats": 2,
        "filter_list": [
            {"name": "last", "filter": [LAST_NUMBER, FIRST]},
            {"name": "first", "filter": [{**LAST_NUMBER, "group_select": 0}, FIRST]},
        ],
        "metric_list": [{"metric": "exact_match", **MEAN}, {"metric": "ter", "aggregation": "ter", "higher_is_better": False}],
    },
    "likely": {
        **ASK,
        "output_type": "loglikelihood",
        "num_fewshot": 1,
        "metric_list": [
            {"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False},
            {"metric": "acc", **MEAN},
        ],
    },
    "text": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{question}}",
        "metric_list": [{"metric": m} for m in ("word_perplexity", "byte_perplexity", "bits_per_byte")],
    },
}


def rows(split: str, n: int) -> list[dict[str, Any]]:
    problems = tiny_world.problems({"train": "search"}.get(split, split), n, seed=3)
    return [
        {
            "question": "".join(tiny_world.question_pieces(problem, "ja")),
            "answer": str(problem.answer),
            "choices": [str(problem.answer), str(problem.answer + 1)][:: 1 if i % 3 else -1],
            "right": 0 if i % 3 else 1,
        }
        for i, problem in enumerate(problems)
    ]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tasks as YAMLs over local JSON Lines, and a current directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    for split, n in SIZES.items():
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(split, n)))
    for name, task in TASKS.items():
        write(tmp_path, name, task)
    return tmp_path


def write(folder: Path, name: str, task: Mapping[str, Any], splits: tuple[str, ...] = tuple(SIZES)) -> None:
    files = {split: f"{split}.jsonl" for split in splits}
    named = {{"train": "training_split"}.get(split, f"{split}_split"): split for split in splits}
    whole = {"task": name, "dataset_path": "json", "dataset_kwargs": {"data_files": files}, **named, **task}
    (folder / "yaml").mkdir(exist_ok=True)
    (folder / "yaml" / f"{name}.yaml").write_text(yaml.safe_dump(whole, allow_unicode=True))


def built(*names: str, **changes: Any) -> LmEval:
    options: dict[str, Any] = {
        "name": "lm_eval",
        "names": list(names),
        "include_path": "yaml",
        "metric": None,
        "num_fewshot": None,
        "limit": {},
        "splits": {},
        "share": {"search": 0.5, "test": 0.5},
        "seed": 1234,
        "apply_chat_template": False,
        "system_instruction": None,
        "allow_overlap": False,
    }
    return LmEval(**{**options, **changes})


class Held:
    """An assembler with one model."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model

    def assemble(self, recipe: Any) -> PreTrainedModel:
        return self.model

    def release(self) -> None:
        pass


def test_results_are_those_of_the_harness_on_every_problem_and_in_the_mean(folder: Path) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    model = AutoModelForCausalLM.from_pretrained(FAMILY / "ja", dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(FAMILY / "ja")
    theirs = simple_evaluate(
        HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4, max_length=512),
        tasks=list(TASKS),
        task_manager=TaskManager(include_path=str(folder / "yaml"), include_defaults=False),
        bootstrap_iters=0,
    )
    task = built(*TASKS)
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    generator = HuggingFaceGenerator(batch_size=4)
    evaluator = Evaluator(Held(model), tokenizer, task, generator, trainer, ["test"], window=512)
    ours = evaluator.evaluate(None, Portion("test"))  # type: ignore[arg-type]

    means, results = ours.means, theirs["results"]
    for name in ("choice/acc", "choice/acc_norm", "choice/acc_mutual_info", "contexts/acc", "likely/acc"):
        unit, metric = name.split("/")
        by_problem = [sample[metric] for sample in theirs["samples"][unit]]
        assert ours.column(name).tolist() == pytest.approx(by_problem, abs=1e-6)
        assert means[name] == pytest.approx(results[unit][f"{metric},none"], abs=1e-6)
    for which in ("last", "first"):
        by_problem = [s["exact_match"] for s in theirs["samples"]["written"] if s["filter"] == which]
        assert ours.column(f"written/exact_match.{which}").tolist() == pytest.approx(by_problem, abs=1e-6)
        assert means[f"written/exact_match.{which}"] == pytest.approx(results["written"][f"exact_match,{which}"], abs=1e-6)
    written = [sample["resps"][0][0] for sample in theirs["samples"]["written"] if sample["filter"] == "last"]
    examples = task.examples("test")
    assert [text for text, e in zip(ours.completions, examples, strict=True) if e.id.startswith("written/")] == written
    by_problem = [sample["perplexity"] for sample in theirs["samples"]["likely"]]
    assert ours.column("likely/log_likelihood").tolist() == pytest.approx(by_problem, rel=1e-6, abs=1e-5)
    assert math.exp(-means["likely/log_likelihood"]) == pytest.approx(results["likely"]["perplexity,none"], rel=1e-5)
    by_word, by_byte = means["text/log_likelihood_per_word"], means["text/log_likelihood_per_byte"]
    assert math.exp(-by_word) == pytest.approx(results["text"]["word_perplexity,none"], rel=1e-5)
    assert math.exp(-by_byte) == pytest.approx(results["text"]["byte_perplexity,none"], rel=1e-6)
    assert -by_byte / math.log(2) == pytest.approx(results["text"]["bits_per_byte,none"], rel=1e-6)
    # All of this on a model that gets some right and some wrong.
    assert 0 < means["choice/acc"] < 1
    assert 0 < means["written/exact_match.last"] <= 1


def test_each_task_is_an_objective_by_its_first_metric_that_is_a_mean(folder: Path) -> None:
    task = built("likely", "text")
    assert task.objectives == ("likely/log_likelihood", "text/log_likelihood_per_word")
    assert task.metrics == (*task.objectives, "likely/acc", "text/log_likelihood_per_byte")
    assert built("choice").metrics == ("acc", "acc_norm", "acc_mutual_info")
    assert built("choice", metric="acc_norm").objectives == ("acc_norm",)
    assert built("choice", metric="acc_norm,none").objectives == ("acc_norm",)  # as the harness' results have it
    assert built("written", metric="exact_match,first").objectives == ("exact_match.first",)
    with pytest.raises(ConfigError, match=r"task.metric: harness task 'choice' has no metric 'f1', only acc, acc_norm"):
        built("choice", metric="f1")


def test_where_lower_is_better_the_metric_is_its_negative_and_says_so(folder: Path) -> None:
    write(folder, "errors", {**TASKS["written"], "metric_list": [{"metric": "exact_match", **MEAN, "higher_is_better": False}]})
    task = built("errors")
    example = task.examples("test")[0]

    assert task.objectives == ("minus_exact_match.last",)
    assert task.score(example, example.answer) == (-1.0, -1.0)
    assert task.score(example, "何も") == (0.0, 0.0)


def test_a_task_without_a_mean_is_refused(folder: Path) -> None:
    write(folder, "mcc", {**TASKS["choice"], "metric_list": TASKS["choice"]["metric_list"][-1:]})
    with pytest.raises(ConfigError, match=r"'mcc' has no metric that is a mean .*: it has mcc .aggregation matthews_corrcoef."):
        built("mcc")


def test_the_test_is_what_the_harness_reports_on_and_search_and_validation_are_the_other_splits(folder: Path) -> None:
    task = built("written")
    sources = {split: {e.id.split("-")[0] for e in task.examples(split)} for split in ("search", "validation", "test")}
    assert sources == {"search": {"written/training"}, "validation": {"written/validation"}, "test": {"written/test"}}
    assert [len(task.examples(split)) for split in ("search", "validation", "test")] == list(SIZES.values())

    write(folder, "two", TASKS["written"], ("train", "validation"))
    assert {e.id.split("-")[0] for e in built("two").examples("test")} == {"two/validation"}
    swapped = built("two", splits={"test": "training", "search": "validation"})
    assert len(swapped.examples("test")) == SIZES["train"]
    with pytest.raises(ConfigError, match=r"task.splits.search: harness task 'two' has no test split of its own"):
        built("two", splits={"search": "test"})


def test_a_single_split_is_divided_by_the_question(folder: Path) -> None:
    many = rows("test", 40)
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*many, *many[:9]]))  # some twice
    write(folder, "one", TASKS["written"], ("test",))
    task = built("one")
    search, test = ({example.question for example in task.examples(split)} for split in ("search", "test"))

    assert not search & test
    assert len(search | test) == 40
    assert min(len(search), len(test)) > 10
    assert task.examples("validation") == ()
    assert {e.question for e in built("one", seed=5).examples("search")} != search
    thirds = built("one", share={"search": 1, "validation": 1, "test": 1})
    assert all(len(thirds.examples(split)) > 4 for split in ("search", "validation", "test"))
    with pytest.raises(ConfigError, match=r"task.share: search and test share the test split of harness task 'one'"):
        built("one", share={})


def test_a_limit_takes_the_first_of_the_test_and_any_of_the_search(folder: Path) -> None:
    task = built("written", limit={"search": 4, "test": 3})
    assert [e.id for e in task.examples("test")] == ["written/test-0000", "written/test-0001", "written/test-0002"]
    drawn = [e.id for e in task.examples("search")]
    assert len(drawn) == 4
    assert drawn == sorted(drawn)
    assert drawn != [e.id for e in built("written", limit={"search": 4}, seed=3).examples("search")]


def test_shots_are_never_the_problem_itself_nor_a_problem_of_the_test(folder: Path) -> None:
    write(folder, "shots", {**TASKS["written"], "num_fewshot": 5})
    task = built("shots")  # shots and search problems are both from the training split
    for example in task.examples("search"):
        assert str(task.prompt(example)).count(example.question) == 1
        assert str(task.prompt(example)).count("Q: ") == 6

    write(folder, "same", {**TASKS["written"], "num_fewshot": 1}, ("test",))
    task = built("same")
    tested = [example.question for example in task.examples("test")]
    assert not any(question in str(task.prompt(example)) for example in task.examples("search") for question in tested)
    with pytest.raises(DataError, match=r"cannot write the prompt of its problem \d+ with 50 shots"):
        built("same", num_fewshot=50).examples("search")


def test_splits_that_share_a_question_are_refused_unless_allowed(folder: Path) -> None:
    (folder / "train.jsonl").write_text((folder / "test.jsonl").read_text())
    with pytest.raises(DataError, match="splits must not share questions, but 8 of the 8 of 'test' are also in 'search'"):
        built("written").examples("search")
    assert len(built("written", allow_overlap=True).examples("search")) == 8


def test_a_group_is_one_objective_averaged_as_it_says(folder: Path) -> None:
    (folder / "short.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows("test", 30)[20:22]))
    files = {"train": "train.jsonl", "test": "short.jsonl"}
    write(folder, "short", {**TASKS["contexts"], "dataset_kwargs": {"data_files": files}}, ("train", "test"))
    group = {"group": "both", "task": ["contexts", "short"]}
    for name, by_size in (("both", True), ("evenly", False)):
        aggregate = [{"metric": "acc", "weight_by_size": by_size}]
        (folder / "yaml" / f"{name}.yaml").write_text(
            yaml.safe_dump({**group, "group": name, "aggregate_metric_list": aggregate})
        )
    (folder / "yaml" / "loose.yaml").write_text(yaml.safe_dump({**group, "group": "loose"}))

    def mean(name: str) -> float:
        """Of answers that are right in the longer task and wrong in the other."""
        task = built(name, allow_overlap=True)
        assert task.objectives == ("acc",)
        scores = []
        for example in task.examples("test"):
            answering = task.answering_of(example)
            assert isinstance(answering, Likelihoods)
            right = [label == example.answer for label in answering.labels]
            wanted = right if example.id.startswith("contexts/") else [not each for each in right]
            scores.append(
                task.score(example, tuple(LogLikelihood(-2.0 + each, is_greedy=False, n_tokens=1) for each in wanted))
            )
        return float(np.mean(scores))

    assert mean("both") == pytest.approx(8 / 10)
    assert mean("evenly") == pytest.approx(1 / 2)
    assert built("loose", allow_overlap=True).objectives == ("contexts/acc", "short/acc")
    with pytest.raises(ConfigError, match=r"'contexts' is in both 'contexts' and 'both'; name it once"):
        built("contexts", "both")


def test_a_chat_template_gets_messages_with_the_shots_as_turns(folder: Path) -> None:
    task = built("choice", apply_chat_template=True, system_instruction="短く。")
    example = task.examples("test")[0]
    prompt = task.prompt(example)

    assert isinstance(prompt, list)
    assert [turn["role"] for turn in prompt] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert example.question.splitlines()[0] in prompt[-1]["content"]
    answering = task.answering_of(example)
    assert isinstance(answering, Likelihoods)
    assert answering.pairs[0] == (prompt, answering.labels[0])  # no space between a turn and its answer
    write(folder, "begun", {**TASKS["written"], "gen_prefix": "答えは"})
    with pytest.raises(ConfigError, match="gen_prefix"):
        built("begun", apply_chat_template=True)


def test_a_question_from_outside_is_answered_freely(folder: Path) -> None:
    task = built("choice")
    outside = Example("question", "何個?", "")
    assert task.prompt(outside) == "何個?"
    assert isinstance(task.answering_of(outside), Decoding)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"do_sample": True, "temperature": 0.7}, r"not greedy decoding .do_sample: True, temperature: 0.7."),
        ({"num_beams": 4}, "num_beams: 4"),
        ({"min_length": 4}, "min_length: 4"),
    ],
)
def test_decoding_that_is_not_greedy_is_refused(folder: Path, options: dict[str, Any], said: str) -> None:
    write(folder, "other", {**TASKS["written"], "generation_kwargs": {"until": ["Q:"], **options}})
    with pytest.raises(ConfigError, match=said):
        built("other")


def test_greedy_decoding_is_taken_however_it_is_said(folder: Path) -> None:
    options = {"until": "Q:", "do_sample": False, "temperature": 0.3, "top_p": 0.9, "max_tokens": 9}
    write(folder, "other", {**TASKS["written"], "generation_kwargs": options})
    task = built("other")
    assert task.answering_of(task.examples("test")[0]) == Decoding(9, ("Q:",))


def test_data_that_cannot_be_had_is_one_sentence(folder: Path) -> None:
    write(folder, "lost", {**TASKS["written"], "dataset_path": "nobody/nothing", "dataset_kwargs": {}})
    with pytest.raises(DataError, match=r"dataset 'nobody/nothing' cannot be fetched, give it locally: .* dataset_path: json"):
        built("lost")
    write(folder, "gone", {**TASKS["written"], "dataset_kwargs": {"data_files": {"test": "gone.jsonl"}}})
    with pytest.raises(DataError, match=r"'gone' cannot be loaded .*looked for from"):
        built("gone")


def test_a_task_that_does_not_fit_its_data_is_one_sentence(folder: Path) -> None:
    write(folder, "unfit", {**TASKS["choice"], "doc_to_target": "{{wrong}}", "process_docs": None})
    with pytest.raises((ConfigError, DataError), match="harness task 'unfit'"):
        built("unfit").examples("test")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"names": []}, "task.names: must be a list of harness tasks"),
        ({"include_path": "nowhere"}, "task.include_path: there is no folder 'nowhere'"),
        ({"splits": {"test": "train"}}, "task.splits.test: must be one of 'training'"),
        ({"share": {"test": -1}}, "task.share.test: must be a number of at least 0"),
        ({"num_fewshot": -1}, "task.num_fewshot: must be a whole number"),
    ],
)
def test_bad_options_are_named(folder: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        built("choice", **changes)


@pytest.mark.slow  # the harness reads 14,000 YAMLs
def test_an_unknown_name_gets_the_nearest_ones_of_the_harness(folder: Path) -> None:
    with pytest.raises(
        ConfigError,
        match=r"the harness has no task, group or tag 'helaswag'; did you mean .*'hellaswag'.*task.include_path=DIR",
    ):
        built("helaswag")


def test_the_example_of_the_readme_evolves(
    command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    root = Path(__file__).parents[2]
    (tmp_path / "examples").symlink_to(root / "examples")
    words = ("task=lm_eval", "task.names=[my_task]", "task.include_path=examples/harness", "models=tiny_ja_math")
    small = ("task.limit.search=6", "task.limit.test=6", "optimizer.population_size=4", "budget.generations=1", "tracker=none")
    ended = command(*words, *small, "hydra.run.dir=run")
    assert (ended.code, ended.err) == (0, "")
    assert "exact_match" in ended.out
    assert json.loads((tmp_path / "run" / "summary.json").read_text())
