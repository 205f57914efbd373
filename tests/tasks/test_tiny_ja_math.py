"""The task of the embedded family."""

from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from evo_merge.errors import ConfigError
from evo_merge.tasks import tiny_world
from evo_merge.tasks.base import SPLITS, Decoding
from evo_merge.tasks.examples import refuse_overlap
from evo_merge.tasks.tiny_ja_math import LARGEST_SPLIT, TinyJaMath

CONF = Path(__file__).parents[2] / "conf" / "task" / "tiny_ja_math.yaml"


def task(**options: object) -> TinyJaMath:
    """Build the task of the yaml, with some of its options replaced."""
    config = OmegaConf.load(CONF)
    assert isinstance(config, DictConfig)
    config.pop("defaults")
    built = instantiate(OmegaConf.merge(config, OmegaConf.create(options)), _convert_="all")
    assert isinstance(built, TinyJaMath)
    return built


def test_splits_have_the_sizes_of_the_yaml_and_share_nothing() -> None:
    built = task()
    splits = {split: built.examples(split) for split in SPLITS}

    assert [len(examples) for examples in splits.values()] == [200, 200, 500]
    refuse_overlap(splits)
    ids = [example.id for examples in splits.values() for example in examples]
    assert len(set(ids)) == 900


def test_the_seed_decides_the_problems() -> None:
    assert task(seed=3).examples("test") == task(seed=3).examples("test")
    assert task(seed=3).examples("test") != task(seed=4).examples("test")


def test_the_prompt_is_the_one_that_the_family_has_learnt() -> None:
    built = task(limit={"search": 1})
    problem = tiny_world.problems("search", 1, 0)[0]

    prompt = built.prompt(built.examples("search")[0])

    assert prompt == "".join(tiny_world.prompt_pieces(tiny_world.question_pieces(problem, "ja")))
    assert built.decoding == Decoding(40)


def test_only_the_right_number_in_japanese_scores() -> None:
    built = task(limit={"test": 50})
    problems = tiny_world.problems("test", 50, 0)

    for example, problem in zip(built.examples("test"), problems, strict=True):
        assert built.score(example, tiny_world.answer_ja(problem)) == (1.0, 1.0, 1.0)
        assert built.score(example, tiny_world.answer_en(problem)) == (0.0, 1.0, 0.0)
        wrong = tiny_world.answer_ja(problem) + f"いいえ、答えは{problem.answer + 1}個です。"
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
        ({"language": "japanese"}, r"task\.language: .*got 'japanese'"),
        ({"answer_parser": "none"}, r"task\.answer_parser: .*got 'none'"),
    ],
)
def test_a_wrong_value_is_named(options: dict[str, object], message: str) -> None:
    config = OmegaConf.to_container(OmegaConf.merge(OmegaConf.load(CONF), OmegaConf.create(options)))
    assert isinstance(config, dict)

    with pytest.raises(ConfigError, match=message):
        TinyJaMath(**{str(key): value for key, value in config.items() if key not in ("_target_", "defaults")})


def test_the_largest_splits_can_be_drawn() -> None:
    built = task(limit=dict.fromkeys(SPLITS, LARGEST_SPLIT))

    assert [len(built.examples(split)) for split in SPLITS] == [LARGEST_SPLIT] * 3
