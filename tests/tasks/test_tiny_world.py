"""The world of the tiny family: its splits never meet, its texts are sound, its answers are right."""

import random
import re
import subprocess
import sys

import pytest

from evo_merge.tasks import tiny_world as world
from evo_merge.tasks.tiny_world import Phrase, Problem

SPLITS = ("search", "validation", "test")


def questions(split: str, seed: int) -> set[str]:
    drawn = world.problems(split, 600, seed)
    return {world.question_ja(problem) for problem in drawn} | {world.question_en(problem) for problem in drawn}


def test_a_question_is_asked_once_in_a_split_and_in_no_other_split() -> None:
    asked = {split: questions(split, seed=0) for split in SPLITS}
    assert {split: len(texts) for split, texts in asked.items()} == dict.fromkeys(SPLITS, 2 * 600)
    assert len(set.union(*asked.values())) == sum(len(texts) for texts in asked.values())


def test_splits_of_different_seeds_do_not_meet_either() -> None:
    assert not questions("search", seed=1) & questions("test", seed=0)
    assert not questions("search", seed=3) & questions("validation", seed=1)


def test_the_training_split_holds_no_test_question() -> None:
    rng = random.Random(0)
    learnt = {world.question_ja(world.draw_problem(rng, "train")) for _ in range(3000)}
    assert not learnt & questions("test", seed=0)


def test_different_problems_have_different_keys_and_questions() -> None:
    drawn = [problem for split in SPLITS for problem in world.problems(split, 800, seed=5)]
    keys = {world.key(problem) for problem in drawn}
    assert len(keys) == len(set(drawn)) == len({world.question_ja(problem) for problem in drawn}) == 2400


def test_the_same_seed_draws_the_same_problems_in_any_process() -> None:
    code = "from evo_merge.tasks import tiny_world as w; print(*map(w.key, w.problems('test', 20, 7)), sep='|')"
    answers = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": hash_seed, "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            encoding="utf-8",
            check=True,
        ).stdout.strip()
        for hash_seed in ("1", "2")
    ]
    here = "|".join(world.key(problem) for problem in world.problems("test", 20, 7))
    assert answers == [here, here]


def test_a_longer_draw_begins_with_the_shorter_one() -> None:
    assert world.problems("search", 300, 4)[:100] == world.problems("search", 100, 4)
    assert world.problems("search", 100, 4) != world.problems("search", 100, 5)


def test_every_kind_has_its_share() -> None:
    kinds = [problem.kind for problem in world.problems("test", 500, seed=0)]
    assert all(70 <= kinds.count(kind) <= 130 for kind in world.KINDS)


def test_numbers_stay_in_the_world() -> None:
    for problem in world.problems("test", 1000, seed=0):
        assert all(1 <= number <= world.LARGEST_OPERAND for number in problem.numbers)
        assert all(1 <= result <= world.LARGEST_NUMBER for result in problem.results)


def test_a_problem_reads_as_written_by_hand() -> None:
    problem = Problem(
        kind="×+",
        numbers=(3, 4, 5),
        name=Phrase("花子", "Hanako"),
        thing=Phrase("もも", "peaches"),
        container=Phrase("箱", "boxes"),
        verbs=(Phrase("買いました。", " buys "),),
    )
    assert problem.answer == 17
    assert world.question_ja(problem) == (
        "花子は箱を3個持っています。それぞれにももが4個ずつ入っています。次に5個買いました。全部で何個ですか。"
    )
    assert world.answer_ja(problem) == (
        "はじめに3個です。4個ずつなので、3×4=12です。"  # the first step
        "次に5増えるので、12+5=17です。答えは17個です。"
    )
    assert world.question_en(problem) == "Hanako has 3 boxes. Each holds 4 peaches. Then Hanako buys 5. How many in all?"
    assert world.answer_en(problem) == (
        "At first there are 3. 4 in each, so 3×4=12. Then 5 more come, so 12+5=17. The answer is 17."
    )


def test_the_last_number_of_an_answer_is_the_answer() -> None:
    for problem in world.problems("validation", 300, seed=0):
        for text in (world.answer_ja(problem), world.answer_en(problem)):
            assert int(re.findall(r"\d+", text)[-1]) == problem.answer


def test_every_text_is_made_of_the_known_pieces() -> None:
    known = set(world.PIECES)
    assert len(known) == len(world.PIECES)
    rng = random.Random(0)
    for problem in world.problems("search", 300, seed=0):
        topic = rng.choice(world.topics(problem))
        for language in ("ja", "en"):
            question = world.question_pieces(problem, language)
            reading = world.reading_question_pieces(problem, topic, language)
            answers = world.answer_pieces(problem, language) + world.reading_answer_pieces(problem, topic, language)
            assert known.issuperset([*world.prompt_pieces(question), *reading, *answers])


@pytest.mark.parametrize(("split", "n"), [("tset", 5), ("test", -1), ("validation", 10**6)])
def test_an_impossible_draw_is_refused(split: str, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "MOST_VAIN_DRAWS", 2)
    with pytest.raises(ValueError, match=r"split|number of problems"):
        world.problems(split, n, seed=0)
