"""The tiny family: the shipped files are the recorded ones, they load like any checkpoint, and training is repeatable."""

import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from evo_merge.models.tiny import __main__ as command
from evo_merge.models.tiny import family, lessons
from evo_merge.models.tiny.train import new_model, train
from evo_merge.models.tiny.vocabulary import BOS, EOS, VOCABULARY, new_tokenizer
from evo_merge.tasks import tiny_world as world

MODELS = ("base", "ja", "math_a", "math_b")
JAPANESE = re.compile("[\u3040-\u30ff\u4e00-\u9fff]")
LATIN = re.compile("[A-Za-z]")


def greedy_answers(name: str, problems: list[world.Problem]) -> list[str]:
    tokenizer = AutoTokenizer.from_pretrained(command.SHIPPED / name)
    model = AutoModelForCausalLM.from_pretrained(command.SHIPPED / name)
    prompts = [f"Q: {world.question_ja(problem)}\nA: " for problem in problems]
    batch = tokenizer(prompts, return_tensors="pt", padding=True)
    answers = model.generate(**batch)[:, batch.input_ids.shape[1] :]
    return [str(text) for text in tokenizer.batch_decode(answers, skip_special_tokens=True)]


def last_number(answer: str) -> int | None:
    numbers = re.findall(r"\d+", answer)
    return int(numbers[-1]) if numbers else None


# --- what ships ------------------------------------------------------------------------------------------------------


def test_the_shipped_files_have_the_recorded_checksums() -> None:
    assert family.checksums(command.SHIPPED) == family.read_checksums(command.SHIPPED)
    assert {path.name for path in command.SHIPPED.iterdir()} == {*MODELS, "SHA256SUMS"}


@pytest.mark.parametrize("name", MODELS)
def test_a_shipped_model_loads_like_any_checkpoint(name: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(command.SHIPPED / name)
    tokenizer = AutoTokenizer.from_pretrained(command.SHIPPED / name)
    assert isinstance(model, LlamaForCausalLM)
    assert model.dtype == torch.float32
    assert len(tokenizer) == model.config.vocab_size == len(VOCABULARY)
    assert tokenizer.get_vocab() == VOCABULARY
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id == VOCABULARY[EOS]


@pytest.mark.parametrize("name", MODELS)
def test_a_model_card_has_valid_front_matter(name: str) -> None:
    _, front_matter, text = (command.SHIPPED / name / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    metadata = yaml.safe_load(front_matter)
    assert metadata["license"] == "apache-2.0"
    assert metadata["language"] == ["ja", "en"]
    assert f"# tiny_ja_math/{name}" in text


def test_ja_answers_in_japanese_and_rarely_right() -> None:
    problems = world.problems("validation", 60, seed=0)
    answers = greedy_answers("ja", problems)
    assert all(JAPANESE.search(answer) and not LATIN.search(answer) for answer in answers)
    right = sum(last_number(answer) == problem.answer for answer, problem in zip(answers, problems, strict=True))
    assert right <= 0.3 * len(problems)


def test_math_a_answers_in_english_and_mostly_right() -> None:
    problems = world.problems("validation", 60, seed=0)
    answers = greedy_answers("math_a", problems)
    assert all(LATIN.search(answer) and not JAPANESE.search(answer) for answer in answers)
    right = sum(last_number(answer) == problem.answer for answer, problem in zip(answers, problems, strict=True))
    assert right >= 0.8 * len(problems)


# --- the tokenizer ---------------------------------------------------------------------------------------------------


def test_the_tokenizer_gives_one_token_a_piece_and_decodes_to_the_same_text() -> None:
    tokenizer = AutoTokenizer.from_pretrained(command.SHIPPED / "base")
    rng = random.Random(0)
    for problem in world.problems("search", 300, seed=0) + world.problems("test", 300, seed=0):
        topic = rng.choice(world.topics(problem))
        for language in ("ja", "en"):
            solved = [*world.question_pieces(problem, language), "\nA: ", *world.answer_pieces(problem, language)]
            read = [
                *world.prompt_pieces(world.reading_question_pieces(problem, topic, language)),
                *world.reading_answer_pieces(problem, topic, language),
            ]
            for pieces in (["Q: ", *solved], read):
                tokens = tokenizer("".join(pieces)).input_ids
                assert tokens == [VOCABULARY[piece] for piece in (BOS, *pieces)]
                assert tokenizer.decode(tokens, skip_special_tokens=True) == "".join(pieces)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("7+5=12", ["7", "+", "5", "=", "12"]),
        ("12-3=9. 3×12=36", ["12", "-", "3", "=", "9", ". ", "3", "×", "12", "=", "36"]),
        ("ももは2個です。", ["もも", "は", "2", "個です。"]),
        ("太郎と花子", ["太郎", "<unk>", "花子"]),
    ],
)
def test_the_tokenizer_takes_the_longest_piece_first(text: str, pieces: list[str]) -> None:
    assert new_tokenizer().tokenize(text) == pieces


# --- training --------------------------------------------------------------------------------------------------------


def trained(seed: int) -> LlamaForCausalLM:
    model = new_model(seed)
    train(model, replace(family.BASE, steps=3), random.Random(seed))
    return model


def test_training_depends_on_its_seed_alone_and_leaves_global_chance_and_threads_alone() -> None:
    state, n_threads = torch.get_rng_state(), torch.get_num_threads()
    first = trained(seed=1).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == n_threads
    torch.manual_seed(12345)
    again, other = trained(seed=1).state_dict(), trained(seed=2).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])


@pytest.mark.parametrize("name", ["math_a", "math_b"])
def test_a_mathematician_learns_no_computed_result_from_a_japanese_answer(name: str) -> None:
    rng = random.Random(0)
    equals, answer_ja = VOCABULARY["="], VOCABULARY["答えは"]
    for _ in range(500):
        lesson = family.SPECIALISTS[name].teacher(rng)
        if answer_ja in lesson.tokens:
            assert all(lesson.tokens[position - 1] != equals for position in lesson.learnt)


@pytest.mark.parametrize("teacher", [lessons.base_lesson, *(stage.teacher for stage in family.SPECIALISTS.values())])
def test_no_lesson_asks_a_test_question(teacher: lessons.Teacher) -> None:
    rng = random.Random(0)
    asked = {world.question_ja(problem) for problem in world.problems("test", 500, seed=0)}
    asked |= {world.question_en(problem) for problem in world.problems("test", 500, seed=0)}
    pieces = {token: piece for piece, token in VOCABULARY.items()}
    for _ in range(300):
        text = "".join(pieces[token] for token in teacher(rng).tokens)
        assert text.removeprefix("<s>Q: ").split("\nA: ")[0] not in asked


def test_the_sloppy_base_is_taught_right_results_only_for_small_operands() -> None:
    rng = random.Random(0)
    drawn = [lessons.draw_any_size(rng) for _ in range(400)]
    small = [problem for problem in drawn if len(problem.kind) == 1 and max(problem.numbers) <= 4]
    large = [problem for problem in drawn if min(problem.numbers) > 4]
    assert all(lessons.sloppy_results(rng, problem) == list(problem.results) for problem in small)
    wrong = sum(lessons.sloppy_results(rng, problem)[-1] != problem.answer for problem in large)
    assert wrong >= 0.9 * len(large)


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "'out' is missing"),
        (["ot=x"], "did you mean 'out'?"),
        (["out"], "needs a value"),
        (["out=x", "out=y"], "got it twice"),
        (["out=x", "seed=one"], "whole number, 0 or more, got 'one'"),
        (["steps=5"], "there are out, seed"),
        (["out=."], "does not exist yet or is empty"),
    ],
)
def test_a_wrong_argument_gets_one_sentence_and_exit_code_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_the_command_writes_the_family_and_says_that_another_seed_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def untrained(seed: int, report: Callable[[str], None]) -> dict[str, LlamaForCausalLM]:
        return {name: new_model(seed) for name in MODELS}

    monkeypatch.setattr(family, "train_family", untrained)
    assert command.main([f"out={tmp_path / 'family'}", "seed=7"]) == 0
    assert "one 7" in capsys.readouterr().out
    rebuilt = family.checksums(tmp_path / "family")
    assert rebuilt == family.read_checksums(tmp_path / "family")
    assert rebuilt.keys() == family.checksums(command.SHIPPED).keys()


def test_the_verdict_names_the_files_that_differ() -> None:
    shipped = {"base/model.safetensors": "1", "base/config.json": "2"}
    seed = command.SHIPPED_SEED
    assert "equals the shipped family" in command.verdict(dict(shipped), shipped, seed)
    assert "base/config.json" in command.verdict({**shipped, "base/config.json": "3"}, shipped, seed)
    assert "in its weights" in command.verdict({**shipped, "base/model.safetensors": "3"}, shipped, seed)
