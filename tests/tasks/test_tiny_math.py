"""The tasks of the embedded family."""

import hashlib
from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from evo_merge.errors import ConfigError
from evo_merge.tasks import tiny_world
from evo_merge.tasks.base import SPLITS, Decoding
from evo_merge.tasks.examples import refuse_overlap
from evo_merge.tasks.tiny_math import LARGEST_SPLIT, TinyMath
from evo_merge.tasks.tiny_world import Language

CONF = Path(__file__).parents[2] / "conf" / "task"
LANGUAGES: tuple[Language, ...] = ("ja", "en")

both_languages = pytest.mark.parametrize("language", LANGUAGES)


def task(language: Language = "ja", **options: object) -> TinyMath:
    """Build the task of a yaml, with some of its options replaced."""
    config = OmegaConf.load(CONF / f"tiny_{language}_math.yaml")
    assert isinstance(config, DictConfig)
    config.pop("defaults")
    built = instantiate(OmegaConf.merge(config, OmegaConf.create(options)), _convert_="all")
    assert isinstance(built, TinyMath)
    return built


@both_languages
def test_splits_have_the_sizes_of_the_yaml_and_share_nothing(language: Language) -> None:
    built = task(language)
    splits = {split: built.examples(split) for split in SPLITS}

    assert built.name == f"tiny_{language}_math"
    assert [len(examples) for examples in splits.values()] == [200, 200, 500]
    refuse_overlap(splits)
    ids = [example.id for examples in splits.values() for example in examples]
    assert len(set(ids)) == 900


def test_the_japanese_problems_are_those_of_all_earlier_versions() -> None:
    examples = task().examples("search")

    # Of the version before there were English ones.
    assert hashlib.sha256(repr(examples).encode()).hexdigest().startswith("e8f748c1ab26377a")


def test_both_languages_tell_the_same_problems_and_no_problem_is_in_two_splits() -> None:
    in_ja, in_en = task("ja"), task("en")
    seen: set[str] = set()

    for split in SPLITS:
        problems = tiny_world.problems(split, len(in_ja.examples(split)), 0)
        assert [example.question for example in in_ja.examples(split)] == [tiny_world.question_ja(p) for p in problems]
        assert [example.question for example in in_en.examples(split)] == [tiny_world.question_en(p) for p in problems]
        keys = {tiny_world.key(problem) for problem in problems}
        assert not seen & keys
        seen |= keys
    ids = {example.id for built in (in_ja, in_en) for split in SPLITS for example in built.examples(split)}
    assert len(ids) == 1800


def test_the_seed_decides_the_problems() -> None:
    assert task(seed=3).examples("test") == task(seed=3).examples("test")
    assert task(seed=3).examples("test") != task(seed=4).examples("test")


@both_languages
def test_the_prompt_is_the_one_that_the_family_has_learnt(language: Language) -> None:
    built = task(language, limit={"search": 1})
    problem = tiny_world.problems("search", 1, 0)[0]

    prompt = built.prompt(built.examples("search")[0])

    assert prompt == "".join(tiny_world.prompt_pieces(tiny_world.question_pieces(problem, language)))
    assert built.decoding == Decoding(40)


@both_languages
def test_only_the_right_number_in_the_wanted_language_scores(language: Language) -> None:
    built = task(language, limit={"test": 50})
    problems = tiny_world.problems("test", 50, 0)
    right, foreign = tiny_world.answer_ja, tiny_world.answer_en
    if language == "en":
        right, foreign = foreign, right
    again = {"ja": "いいえ、答えは{}個です。", "en": " No, the answer is {}."}[language]

    for example, problem in zip(built.examples("test"), problems, strict=True):
        assert built.score(example, right(problem)) == (1.0, 1.0, 1.0)
        assert built.score(example, foreign(problem)) == (0.0, 1.0, 0.0)
        wrong = right(problem) + again.format(problem.answer + 1)
        assert built.score(example, wrong) == (0.0, 0.0, 1.0)


def test_saved_completions_are_judged(tmp_path: Path) -> None:
    file = tmp_path / "saved.jsonl"
    file.write_text('{"id": "a", "answer": 7, "completion": "答えは7個です。"}\n', encoding="utf-8")
    built = task()

    assert [built.judge(*pair).score for pair in built.saved_completions(str(file))] == [1.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": {"search": -1}}, r"task\.limit\.search: .*got -1"),
        ({"limit": {"test": 10_001}}, r"task\.limit\.test: must be a number of problems up to 10000, got 10001"),
        ({"limit": {"test": None}}, r"task\.limit\.test: must be a number of problems up to 10000, got None"),
        ({"seed": "one"}, r"task\.seed: .*got 'one'"),
        ({"max_new_tokens": 0}, r"task\.max_new_tokens: .*got 0"),
        ({"questions": "fr"}, r"task\.questions: must be one of 'ja', 'en', got 'fr'"),
        ({"language": "japanese"}, r"task\.language: .*got 'japanese'"),
        ({"answer_parser": "none"}, r"task\.answer_parser: .*got 'none'"),
    ],
)
def test_a_wrong_value_is_named(options: dict[str, object], message: str) -> None:
    yaml = OmegaConf.load(CONF / "tiny_ja_math.yaml")
    config = OmegaConf.to_container(OmegaConf.merge(yaml, OmegaConf.create(options)))
    assert isinstance(config, dict)

    with pytest.raises(ConfigError, match=message):
        TinyMath(**{str(key): value for key, value in config.items() if key not in ("_target_", "defaults")})


def test_the_largest_splits_can_be_drawn() -> None:
    built = task(limit=dict.fromkeys(SPLITS, LARGEST_SPLIT))

    assert [len(built.examples(split)) for split in SPLITS] == [LARGEST_SPLIT] * 3
