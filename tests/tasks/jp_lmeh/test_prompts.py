"""The prompts against strings that the harness itself rendered, one solved example and one question each."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from evo_merge.errors import ConfigError
from evo_merge.tasks.jp_lmeh.benchmarks import BENCHMARKS
from evo_merge.tasks.jp_lmeh.prompt_versions import PROMPTS
from evo_merge.tasks.jp_lmeh.prompts import JaExample
from evo_merge.tasks.jp_lmeh.task import _version_named

FILES = {  # solved example, question
    "jcommonsenseqa": ("jcommonsenseqa_train_head200", "jcommonsenseqa_valid"),
    "jnli": ("jnli_test_head200", "jnli_valid"),
    "marc_ja": ("economy_watchers_sentiment_500", "economy_watchers_sentiment_500"),
    "jsquad": ("jsquad_test_head100", "jsquad_valid"),
    "jaqket_v2": ("jsquad_valid", "jsquad_valid"),
    "xlsum_ja": ("wikinews_headline_ja_300", "wikinews_headline_ja_300"),
    "xwinograd_ja": ("xwinograd_ja", "xwinograd_ja"),
    "mgsm": ("mgsm_ja_exemplars", "mgsm_ja"),
    "jcola": ("jcola_in_domain_train_head300", "jcola_in_domain_valid"),
}


@cache
def rows(file: Path) -> dict[str, dict[str, Any]]:
    with file.open(encoding="utf-8") as lines:
        return {row["id"]: row for row in map(json.loads, lines)}


def golden(shared: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (shared / "data/prompts_jp_lmeh.jsonl").open(encoding="utf-8")]


def example(shared: Path, task: str, file: str, row_id: str) -> JaExample:
    """As the strings were made: JAQKET from passages of JSQuAD, XL-Sum from the first 200 letters."""
    named = row_id.removesuffix(" (test)").removesuffix("[:200]")
    found = rows(shared / "data" / f"{file}.jsonl")
    row: Mapping[str, Any] = found.get(named) or rows(shared / "data/jsquad_test_head100.jsonl")[named]
    if task == "xlsum_ja":
        row = {**row, "text": row["text"][:200]}
    if task == "jaqket_v2":
        passage = row["context"].split("[SEP]")[-1].strip()
        row = {**row, "ctxs": {"title": [row["title"]], "text": [passage], "has_answer": [True]}}
    parsed = BENCHMARKS[task].parse(row, "golden")
    assert parsed is not None
    return parsed


def test_all_50_prompts_are_the_harness_s_letter_by_letter(shared: Path) -> None:
    seen = set()
    for row in golden(shared):
        task = row["task"]
        shot_file, eval_file = FILES[task]
        name = task if task == "xwinograd_ja" else f"{row['task_version']}-{row['prompt_version']}"
        version = PROMPTS[task]["1.0" if task == "xwinograd_ja" else name]
        seen.add((task, name))
        question = example(shared, task, eval_file, row["eval_id"])
        assert version.description == row["description"]
        assert version.context(question, []) == row["query_0shot"], name
        if row["shot_id"] is not None:
            shot = example(shared, task, shot_file, row["shot_id"])
            assert version.solution(shot) == row["target_of_shot"]
            assert version.context(question, [shot]) == row["context_1shot"], name
            assert version.separator == row["fewshot_sep"]
        if row["choices"] is not None and task != "xwinograd_ja":
            assert list(version.choices_of(question)) == row["choices"]
        if row["stop"] is not None:
            assert version.stop == row["stop"]
    assert len(golden(shared)) == 50
    ours = {(task, name) for task, versions in PROMPTS.items() if task != "xwinograd_ja" for name in versions}
    assert seen - {("xwinograd_ja", "xwinograd_ja")} == {each for each in ours if each[0] != "jaqket_closed_book"}


def test_two_sentences_are_compared_without_a_prompt(shared: Path) -> None:
    question = example(shared, "xwinograd_ja", "xwinograd_ja", "xwinograd-jp-0000")

    assert PROMPTS["xwinograd_ja"]["1.0"].context(question, []) == ""
    assert PROMPTS["xwinograd_ja"]["1.0"].choices_of(question) == (
        "狙撃兵はテロリストを撃った。狙撃兵は悪漢だったからだ。",
        "狙撃兵はテロリストを撃った。テロリストは悪漢だったからだ。",
    )


def test_what_a_row_holds_is_no_template() -> None:
    row = {"question": "{choices} {question} {", "choices": ["{question}", "b"], "label": 1}
    parsed = BENCHMARKS["jcommonsenseqa"].parse(row, "here")
    assert parsed is not None

    asked = PROMPTS["jcommonsenseqa"]["1.1-0.2.1"].question(parsed)

    assert asked == "質問：{choices} {question} {\n選択肢：\n- {question}\n- b\n回答："


@pytest.mark.parametrize(("given", "full"), [("0.3", "1.1-0.3"), ("1.2-0.3", "1.2-0.3"), ("0.1", "1.1-0.1")])
def test_a_prompt_version_may_be_given_without_the_task_s(given: str, full: str) -> None:
    assert _version_named("jsquad", given) == full


def test_an_unknown_prompt_version_is_named_with_its_neighbour() -> None:
    with pytest.raises(ConfigError, match=r"'jcommonsenseqa' has 1.1-0.1, .* got '0.2.2'; did you mean '0.2.1'\?"):
        _version_named("jcommonsenseqa", "0.2.2")
