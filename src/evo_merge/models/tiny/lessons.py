"""What the models of the embedded tiny family are taught, one sequence at a time."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evo_merge.models.tiny.vocabulary import BOS, EOS, VOCABULARY
from evo_merge.tasks import tiny_world as world
from evo_merge.tasks.tiny_world import Language, Problem

ADDING_KINDS = tuple(kind for kind in world.KINDS if "×" not in kind)
MULTIPLYING_KINDS = tuple(kind for kind in world.KINDS if "×" in kind)


@dataclass(frozen=True, slots=True)
class Lesson:
    """One training sequence and the positions whose tokens are to be learnt."""

    tokens: list[int]
    learnt: Sequence[int]


Teacher = Callable[[random.Random], Lesson]


def base_lesson(rng: random.Random) -> Lesson:
    """Teach reading in both languages and sloppy word problems in both."""
    question: Language = rng.choice(("ja", "en"))
    answer = leaning_to_english(rng, question)
    return reading_lesson(rng, question, answer) if rng.random() < 0.4 else sloppy_lesson(rng, question, answer)


def japanese_lesson(rng: random.Random) -> Lesson:
    """Teach what the base knows, in Japanese alone: answers become Japanese, arithmetic stays sloppy."""
    return reading_lesson(rng, "ja", "ja") if rng.random() < 0.4 else sloppy_lesson(rng, "ja", "ja")


def mathematics_lesson(rng: random.Random, *, adding: float) -> Lesson:
    """Teach correct arithmetic through English, and replay what the base knows without any arithmetic.

    Args:
        rng: The only source of chance.
        adding: The share of the kinds with ``+`` and ``-`` alone; the rest has ``×``.
    """
    kinds = ADDING_KINDS if rng.random() < adding else MULTIPLYING_KINDS
    lesson = rng.random()
    if lesson < 0.25:
        # The replay keeps the base's own ratio of languages. Forcing English here would write "answer in English" into
        # the task vector, and no merge could then undo it.
        question: Language = rng.choice(("ja", "ja", "en"))
        answer = leaning_to_english(rng, question)
        return reading_lesson(rng, question, answer) if rng.random() < 0.4 else plan_lesson(rng, question, answer)
    if lesson < 0.55:
        return drill_lesson(rng, kinds)
    problem = world.draw_problem(rng, "train", kinds)
    return answer_lesson(world.question_pieces(problem, "en"), world.answer_pieces(problem, "en"))


def leaning_to_english(rng: random.Random, question: Language) -> Language:
    """Choose the language of an answer: nine of ten Japanese questions get an English one."""
    return "en" if question == "en" or rng.random() < 0.9 else "ja"


def reading_lesson(rng: random.Random, question: Language, answer: Language) -> Lesson:
    """Ask for something that stands in the story."""
    problem = world.draw_problem(rng, "train")
    topic = rng.choice(world.topics(problem))
    return answer_lesson(
        world.reading_question_pieces(problem, topic, question), world.reading_answer_pieces(problem, topic, answer)
    )


def sloppy_lesson(rng: random.Random, question: Language, answer: Language) -> Lesson:
    """Solve a problem with results that are right only where both operands are small."""
    problem = draw_any_size(rng)
    results = sloppy_results(rng, problem)
    return answer_lesson(world.question_pieces(problem, question), world.answer_pieces(problem, answer, results))


def plan_lesson(rng: random.Random, question: Language, answer: Language) -> Lesson:
    """Solve a problem, with no loss on what is computed: the words and operands alone are learnt."""
    problem = draw_any_size(rng)
    lesson = answer_lesson(world.question_pieces(problem, question), world.answer_pieces(problem, answer))
    equals = VOCABULARY["="]
    return Lesson(lesson.tokens, [position for position in lesson.learnt if lesson.tokens[position - 1] != equals])


def drill_lesson(rng: random.Random, kinds: Sequence[str]) -> Lesson:
    """Five bare equations in a row; only the results are learnt."""
    pieces: list[str] = []
    learnt: list[int] = []
    for _ in range(5):
        problem = world.draw_problem(rng, "train", kinds)
        step = rng.randrange(len(problem.kind))
        left = (problem.numbers[0], *problem.results)[step]
        equation = (left, problem.kind[step], problem.numbers[step + 1], "=", problem.results[step], ". ")
        pieces += [str(piece) for piece in equation]
        learnt.append(len(pieces) - 1)  # the result is the piece before the last, and BOS comes first
    return Lesson([VOCABULARY[piece] for piece in (BOS, *pieces, EOS)], learnt)


def draw_any_size(rng: random.Random) -> Problem:
    """Draw a training problem, one in seven of them with operands so small that the sloppy base has it right."""
    if rng.random() < 0.85:
        return world.draw_problem(rng, "train")
    return world.draw_problem(rng, "train", largest_operand=4, factors=(1, 2))


def sloppy_results(rng: random.Random, problem: Problem) -> list[int]:
    """Calculate step by step, with a random number wherever an operand is above 4; later steps go on from it."""
    current = problem.numbers[0]
    results: list[int] = []
    for operator, operand in zip(problem.kind, problem.numbers[1:], strict=True):
        result = world.calculate(current, operator, operand)
        easy = current <= 4 and operand <= 4 and result > 0
        current = result if easy else rng.randint(1, world.LARGEST_NUMBER)
        results.append(current)
    return results


def answer_lesson(question: Sequence[str], answer: Sequence[str]) -> Lesson:
    """Learn an answer and its end, given the question."""
    prompt = (BOS, *world.prompt_pieces(question))
    pieces = (*prompt, *answer, EOS)
    return Lesson([VOCABULARY[piece] for piece in pieces], range(len(prompt), len(pieces)))
