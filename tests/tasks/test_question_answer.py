"""The question/answer task, and the yamls that stand for it."""

import json
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from evo_merge.errors import ConfigError, DataError
from evo_merge.tasks.base import Decoding, Example
from evo_merge.tasks.question_answer import QuestionAnswer, Verdict

CONF = Path(__file__).parents[2] / "conf" / "task"
YAMLS = ("mgsm_ja", "smollm2_ja_math", "question_answer")


def task(yaml: str = "question_answer", **options: object) -> QuestionAnswer:
    """Build the task of a yaml, with some of its options replaced."""
    config = OmegaConf.load(CONF / f"{yaml}.yaml")
    assert isinstance(config, DictConfig)
    config.pop("defaults", None)
    built = instantiate(OmegaConf.merge(config, OmegaConf.create(options)), _convert_="all")
    assert isinstance(built, QuestionAnswer)
    return built


def write(file: Path, *rows: object) -> str:
    """Write rows as JSON Lines."""
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(file)


def example(answer: object, question: str = "?") -> Example:
    """An example with an answer."""
    return Example("x", question, str(answer))


@pytest.mark.parametrize("yaml", YAMLS)
def test_every_yaml_fits_the_class_and_opens_with_its_command(yaml: str) -> None:
    built = task(yaml)

    assert built.name == yaml
    assert built.objectives == built.metrics[: len(built.objectives)]
    assert (CONF / f"{yaml}.yaml").read_text(encoding="utf-8").startswith("# python -m evo_merge task=" + yaml)


def test_mgsm_ja_is_word_for_word_the_published_task(shared: Path) -> None:
    rows = [json.loads(line) for line in (shared / "data/prompts_sakana.jsonl").open(encoding="utf-8")]
    published = next(row for row in rows if row["id"] == "ja-alpaca-cot")
    built = task("mgsm_ja")

    assert built.prompt(example(1, "{何}個？")) == published["template"].replace("{input}", "{何}個？")
    generation = published["generation"]
    assert built.decoding == Decoding(generation["max_tokens"], tuple(generation["stop"]))


def test_mgsm_ja_gives_all_verdicts_of_the_released_scorer(shared: Path) -> None:
    path = shared / "parity/scoring/mgsm_ja_release.jsonl"
    rows = [json.loads(line) for line in path.open(encoding="utf-8")]
    built = task("mgsm_ja", answer_parser="release")

    verdicts = [built.judge(*pair) for pair in built.saved_completions(str(path))]

    assert len(verdicts) == 300
    assert [(verdict.number, verdict.correct, verdict.score == 1) for verdict in verdicts] == [
        (row["number"], row["acc"], row["acc_ja"]) for row in rows
    ]


def test_mgsm_ja_runs_on_local_files_that_share_nothing(shared: Path) -> None:
    search, test = shared / "data/gsm_symbolic_ja_variants.jsonl", shared / "data/mgsm_ja.jsonl"
    built = task("mgsm_ja", files={"search": str(search), "test": str(test)}, limit={"search": 16})

    assert [len(built.examples(split)) for split in ("search", "validation", "test")] == [16, 0, 250]
    assert built.examples("test")[0].answer == "18"


def test_without_a_hub_mgsm_ja_names_the_option_for_local_files() -> None:
    with pytest.raises(DataError, match=r"task\.files\.search=FILE"):
        task("mgsm_ja").examples("search")


def test_the_test_split_needs_no_hub_for_the_others(tmp_path: Path) -> None:
    file = write(tmp_path / "test.jsonl", {"id": "a", "question": "q", "answer_number": 1})

    assert len(task("mgsm_ja", files={"test": file}).examples("test")) == 1


def test_references_of_the_smollm2_data_are_right_by_either_parser(shared: Path) -> None:
    folder = shared / "models/smollm2"
    files = {"search": str(folder / "search_ja.jsonl"), "test": str(folder / "test_ja.jsonl")}
    solutions = [json.loads(line)["answer"] for line in (folder / "test_ja.jsonl").open(encoding="utf-8")]
    for parser in ("strict", "release"):
        built = task("smollm2_ja_math", files=files, answer_parser=parser)

        assert (len(built.examples("search")), len(built.examples("test"))) == (400, 200)
        scores = [built.score(row, solution) for row, solution in zip(built.examples("test"), solutions, strict=True)]
        assert scores == [(1.0, 1.0, 1.0)] * 200


def test_smollm2_is_asked_with_an_empty_system_turn() -> None:
    assert task("smollm2_ja_math").prompt(example(1, "何個？")) == [
        {"role": "system", "content": ""},
        {"role": "user", "content": "何個？"},
    ]


def test_braces_in_prompt_and_question_stay() -> None:
    built = task(prompt='{"q": "{question}"} {x}')

    assert built.prompt(example(1, "{question} {0}")) == '{"q": "{question} {0}"} {x}'


def test_a_number_counts_whatever_its_form() -> None:
    built = task()

    assert built.judge(example("2,125"), "２１２５．０円です") == Verdict(
        number=2125.0, correct=True, language_ok=True, score=1.0
    )
    assert built.judge(example("#### 18"), "18") == Verdict(number=18.0, correct=True, language_ok=True, score=1.0)
    assert built.judge(example(-5), "5") == Verdict(number=5.0, correct=False, language_ok=True, score=0.0)
    assert built.judge(example(5), "わかりません") == Verdict(number=None, correct=False, language_ok=True, score=0.0)


def test_the_language_rule_is_part_of_the_score() -> None:
    built = task(language="ja")

    assert built.metrics == ("accuracy", "correct", "language_ok")
    assert built.score(example(7), "答えは7個です。") == (1.0, 1.0, 1.0)
    assert built.score(example(7), "So the answer is 7.") == (0.0, 1.0, 0.0)
    assert built.score(example(7), "答えは8個です。") == (0.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("completion", "correct"),
    [
        ("東京", True),
        (" 東京。\n", True),
        ("考えます。\n「東京」", True),
        ("ＴＯＫＹＯ", False),
        ("東京\n違います", False),
        ("", False),
    ],
)
def test_a_text_must_be_the_completion_or_its_last_line(completion: str, correct: bool) -> None:
    verdict = task(answer_kind="text").judge(example("東京"), completion)

    assert verdict == Verdict(number=None, correct=correct, language_ok=True, score=float(correct))


def test_a_text_answer_may_be_punctuation() -> None:
    assert task(answer_kind="text").judge(example("?"), "?").correct
    assert not task(answer_kind="text").judge(example("?"), "").correct


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"answer_parser": "strct"},
            r"task\.answer_parser: .*'release', 'strict', got 'strct'; did you mean 'strict'\?",
        ),
        ({"answer_kind": "word"}, r"task\.answer_kind: must be one of 'number', 'text'"),
        ({"language": "jp"}, r"task\.language: must be one of 176 codes .*got 'jp'"),
        ({"language_threshold": 1.5}, r"task\.language_threshold: .*got 1\.5"),
        ({"language_threshold": "high"}, r"task\.language_threshold: .*got 'high'"),
        ({"limit": {"search": -1}}, r"task\.limit\.search: must be a whole number of at least 1, got -1"),
        ({"limit": {"test": 0}}, r"task\.limit\.test: must be a whole number of at least 1, got 0"),
        ({"limit": {"tset": 1}}, r"task\.limit: has no key 'tset', only search, validation, test"),
        ({"max_new_tokens": 0}, r"task\.max_new_tokens: .*got 0"),
        ({"max_new_tokens": "many"}, r"task\.max_new_tokens: .*got 'many'"),
        ({"prompt": "Q: {input}"}, r"task\.prompt: must be a text with \{question\}"),
        ({"prompt": None}, r"task\.prompt: exactly one .*got neither"),
        ({"messages": [{"role": "user", "content": "{question}"}]}, r"task\.prompt: exactly one .*got both"),
        ({"prompt": None, "messages": [{"role": "user", "content": "?"}]}, r"task\.messages: one content must have"),
        ({"prompt": None, "messages": [{"role": "me", "content": "{question}"}]}, r"task\.messages: .*got 'me'"),
        ({"prompt": None, "messages": [{"role": "user", "text": "{question}"}]}, r"task\.messages: has no key 'text'"),
        ({"stop": "###"}, r"task\.stop: must be a list of texts"),
        ({"stop": None}, r"task\.stop: must be a list of texts"),
        ({"prompt": None, "messages": "{question}"}, r"task\.messages: must be a list of turns"),
        ({"stop": [""]}, r"task\.stop: must be a list of texts, none of them empty"),
        ({"files": {"search": 3}}, r"task\.files\.search: must be the path"),
        ({"files": {"train": "x"}}, r"task\.files: has no key 'train'"),
        ({"hub": {"search": {"path": "a/b"}}}, r"task\.hub\.search: must name the dataset's 'path' and 'split'"),
        ({"columns": {"answer": None}}, r"task\.columns\.answer: must be the name of a field"),
        ({"allow_overlap": "maybe"}, r"task\.allow_overlap: must be true or false"),
    ],
)
def test_a_wrong_value_is_named_before_any_data_is_read(options: dict[str, object], message: str) -> None:
    arguments = OmegaConf.merge(OmegaConf.load(CONF / "question_answer.yaml"), OmegaConf.create(options))
    assert isinstance(arguments, DictConfig)
    arguments.pop("_target_")
    plain: Any = arguments

    with pytest.raises(ConfigError, match=message):
        QuestionAnswer(**plain)  # its values are OmegaConf containers, which are welcome too


def test_a_missing_split_names_its_option(tmp_path: Path) -> None:
    built = task(files={"search": write(tmp_path / "s.jsonl", {"question": "q", "answer": 1})})

    assert len(built.examples("search")) == 1
    assert built.examples("validation") == ()
    with pytest.raises(DataError, match=r"task 'question_answer' has no test examples.*task\.files\.test=FILE"):
        built.examples("test")


def test_data_are_read_once_and_not_before_they_are_wanted(tmp_path: Path) -> None:
    file = tmp_path / "s.jsonl"
    built = task(files={"search": str(file)})
    write(file, {"question": "q", "answer": 1})
    first = built.examples("search")
    file.unlink()

    assert built.examples("search") is first


def test_a_reference_without_a_number_is_named_by_file_and_line(tmp_path: Path) -> None:
    file = write(tmp_path / "s.jsonl", {"question": "p", "answer": 1}, {"question": "q", "answer": "東京"})

    with pytest.raises(DataError, match=r"s\.jsonl', line 2: answer '東京' has no number.*task\.answer_kind=text"):
        task(files={"search": file}).examples("search")
    assert len(task(files={"search": file}, answer_kind="text").examples("search")) == 2


@pytest.mark.parametrize("asked", ["search", "validation", "test"])
def test_splits_that_share_a_question_are_refused_unless_allowed(tmp_path: Path, asked: Any) -> None:
    files = {
        "search": write(tmp_path / "s.jsonl", {"id": "s", "question": "1+1は？", "answer": 2}),
        "validation": write(tmp_path / "v.jsonl", {"id": "v", "question": "何個？", "answer": 2}),
        "test": write(tmp_path / "t.jsonl", {"id": "t", "question": "1+1は", "answer": 2}),
    }

    built = task(files=files)
    for _ in range(2):
        with pytest.raises(DataError, match=r"1 of the 1 of 'test' are also in 'search' \(the first: 't' is 's'\)"):
            built.examples(asked)
    assert len(task(files=files, allow_overlap=True).examples(asked)) == 1
