"""The world of the embedded tiny family: arithmetic word problems told in Japanese and in English.

Everything said in this world is a sequence of *pieces* (words, phrases, numbers, operators) that joined together read as
natural text; the family's tokenizer has one token a piece. The two languages share the numbers and the equations and
nothing else, so an equation is the only bridge on which a skill can cross from one language to the other.

Every problem belongs to exactly one split, which a hash of its content decides: splits are disjoint for every seed and
size, and training draws from a split of its own.
"""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

Language = Literal["ja", "en"]

LARGEST_NUMBER = 40
LARGEST_OPERAND = 12
LARGEST_FACTOR = 6

# The operators of a problem's steps, in order. The kinds are drawn uniformly.
KINDS = ("+", "-", "×", "+-", "×+")

# How many of 100 equal hash buckets each split owns.
SPLIT_SHARES = {"train": 50, "search": 20, "validation": 15, "test": 15}

# Draws in a row without a new problem after which a split counts as used up.
MOST_VAIN_DRAWS = 20_000


class Phrase(NamedTuple):
    """One thing said in both languages."""

    ja: str
    en: str


# All things are counted with 個 and can be eaten, so that every combination reads naturally.
NAMES = (
    Phrase("太郎", "Taro"),
    Phrase("花子", "Hanako"),
    Phrase("健太", "Kenta"),
    Phrase("美咲", "Misaki"),
    Phrase("一郎", "Ichiro"),
    Phrase("由美", "Yumi"),
)
THINGS = (
    Phrase("りんご", "apples"),
    Phrase("みかん", "oranges"),
    Phrase("もも", "peaches"),
    Phrase("あめ", "candies"),
    Phrase("たまご", "eggs"),
    Phrase("パン", "buns"),
    Phrase("クッキー", "cookies"),
    Phrase("ドーナツ", "donuts"),
)
CONTAINERS = (Phrase("箱", "boxes"), Phrase("袋", "bags"), Phrase("かご", "baskets"))
GAINS = (Phrase("もらいました。", " gets "), Phrase("買いました。", " buys "), Phrase("見つけました。", " finds "))
LOSSES = (Phrase("あげました。", " gives away "), Phrase("食べました。", " eats "), Phrase("なくしました。", " loses "))

IN_ALL = Phrase("全部で何個ですか。", "How many in all?")
LEFT = Phrase("残りは何個ですか。", "How many are left?")
THEN = Phrase("次に", "Then ")
BECAUSE = {
    "+": Phrase("増えるので、", " more come, so "),
    "-": Phrase("減るので、", " go away, so "),
    "×": Phrase("個ずつなので、", " in each, so "),
}

# What a reading question asks for: an answer that stands in the story and needs no arithmetic.
TOPICS = {
    "who": Phrase("誰ですか。", "Who is it?"),
    "what": Phrase("何を持っていますか。", "What does this person have?"),
    "first": Phrase("はじめは何個ですか。", "How many at first?"),
    "next": Phrase("次は何個ですか。", "How many next?"),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """A word problem: a person has some things, then gains or loses some.

    Attributes:
        kind: The operators of the steps, one of ``KINDS``.
        numbers: The operands, one more than operators; 1 to ``LARGEST_OPERAND``.
        name: Who it is about.
        thing: What is counted.
        container: What holds the things, if the kind begins with ``×``; else None.
        verbs: How things come and go, one for each ``+`` and ``-``.
    """

    kind: str
    numbers: tuple[int, ...]
    name: Phrase
    thing: Phrase
    container: Phrase | None
    verbs: tuple[Phrase, ...]

    @property
    def results(self) -> tuple[int, ...]:
        """The result of every step; the last one is the answer."""
        results: list[int] = []
        current = self.numbers[0]
        for operator, operand in zip(self.kind, self.numbers[1:], strict=True):
            current = calculate(current, operator, operand)
            results.append(current)
        return tuple(results)

    @property
    def answer(self) -> int:
        """The number asked for."""
        return self.results[-1]


def calculate(left: int, operator: str, right: int) -> int:
    """Apply one of the operators ``+``, ``-`` and ``×``."""
    match operator:
        case "+":
            return left + right
        case "-":
            return left - right
        case "×":
            return left * right
    raise ValueError(f"an operator must be one of '+', '-', '×', got {operator!r}")


def key(problem: Problem) -> str:
    """What tells a problem from any other, the same in every process; two problems with one key ask the same question."""
    container = problem.container.en if problem.container else ""
    words = (problem.name.en, problem.thing.en, container, *(verb.en.strip() for verb in problem.verbs))
    return "/".join((problem.kind, *(str(number) for number in problem.numbers), *words))


def split_of(problem: Problem) -> str:
    """Name the one split a problem belongs to."""
    digest = hashlib.sha256(key(problem).encode()).digest()
    bucket = int.from_bytes(digest[:8], "big") % 100
    for split, share in SPLIT_SHARES.items():
        if bucket < share:
            return split
        bucket -= share
    raise AssertionError("the shares of the splits add up to 100")


def draw_problem(
    rng: random.Random,
    split: str,
    kinds: Sequence[str] = KINDS,
    largest_operand: int = LARGEST_OPERAND,
    factors: tuple[int, int] = (2, LARGEST_FACTOR),
) -> Problem:
    """Draw one problem of a split.

    Args:
        rng: The only source of chance.
        split: One of ``SPLIT_SHARES``.
        kinds: The kinds to draw from, uniformly.
        largest_operand: Bound of the operands of ``+`` and ``-``.
        factors: Smallest and largest operand of ``×``.

    Returns:
        A problem all of whose results are 1 to ``LARGEST_NUMBER``.
    """
    while True:
        kind = rng.choice(kinds)
        numbers = _draw_numbers(rng, kind, largest_operand, factors)
        problem = Problem(
            kind=kind,
            numbers=numbers,
            name=rng.choice(NAMES),
            thing=rng.choice(THINGS),
            container=rng.choice(CONTAINERS) if kind.startswith("×") else None,
            verbs=tuple(rng.choice(GAINS if operator == "+" else LOSSES) for operator in kind if operator != "×"),
        )
        if split_of(problem) == split:
            return problem


def _draw_numbers(rng: random.Random, kind: str, largest_operand: int, factors: tuple[int, int]) -> tuple[int, ...]:
    """Draw operands until every step gives a number the world has a word for."""
    while True:
        numbers = [rng.randint(*factors) if kind.startswith("×") else rng.randint(1, largest_operand)]
        current = numbers[0]
        for operator in kind:
            numbers.append(rng.randint(*factors) if operator == "×" else rng.randint(1, largest_operand))
            current = calculate(current, operator, numbers[-1])
            if not 1 <= current <= LARGEST_NUMBER:
                break
        else:
            return tuple(numbers)


def problems(split: str, n: int, seed: int) -> list[Problem]:
    """Draw ``n`` different problems of a split.

    Problems of two splits never meet, whatever the seeds; a longer draw with the same seed begins with the shorter one.

    Args:
        split: ``search``, ``validation`` or ``test``; ``train`` is what the family has learnt from.
        n: How many; the world holds a few thousand a split.
        seed: Any integer.

    Raises:
        ValueError: No such split, a negative ``n``, or more problems than the split holds.
    """
    if split not in SPLIT_SHARES:
        raise ValueError(f"split must be one of {', '.join(map(repr, SPLIT_SHARES))}, got {split!r}")
    if n < 0:
        raise ValueError(f"the number of problems must be at least 0, got {n}")
    rng = random.Random(f"tiny_world/{split}/{seed}")
    drawn: dict[str, Problem] = {}
    vain_draws = 0
    while len(drawn) < n:
        problem = draw_problem(rng, split)
        if key(problem) in drawn:
            vain_draws += 1
            if vain_draws == MOST_VAIN_DRAWS:
                raise ValueError(f"split {split!r} has no {n} different problems, {len(drawn)} were found; ask for fewer")
            continue
        vain_draws = 0
        drawn[key(problem)] = problem
    return list(drawn.values())


def question_ja(problem: Problem) -> str:
    """Ask the problem in Japanese."""
    return "".join(question_pieces(problem, "ja"))


def question_en(problem: Problem) -> str:
    """Ask the problem in English."""
    return "".join(question_pieces(problem, "en"))


def answer_ja(problem: Problem) -> str:
    """Solve the problem step by step in Japanese."""
    return "".join(answer_pieces(problem, "ja"))


def answer_en(problem: Problem) -> str:
    """Solve the problem step by step in English."""
    return "".join(answer_pieces(problem, "en"))


def question_pieces(problem: Problem, language: Language) -> list[str]:
    """Ask the problem, piece by piece."""
    asked = LEFT if problem.kind.endswith("-") else IN_ALL
    return [*_story_pieces(problem, language), getattr(asked, language)]


def _story_pieces(problem: Problem, language: Language) -> list[str]:
    return _story_ja(problem) if language == "ja" else _story_en(problem)


def _story_ja(problem: Problem) -> list[str]:
    first, *others = (str(number) for number in problem.numbers)
    held = problem.container or problem.thing
    story = [problem.name.ja, "は", held.ja, "を", first, "個持っています。"]
    if problem.container:
        story += ["それぞれに", problem.thing.ja, "が", others.pop(0), "個ずつ", "入っています。"]
    for step, (verb, number) in enumerate(zip(problem.verbs, others, strict=True)):
        # The second event of a story, and the first one after the containers, is told as a sequel.
        sequel = step > 0 or problem.container is not None
        story += [*([THEN.ja] if sequel else []), number, "個", verb.ja]
    return story


def _story_en(problem: Problem) -> list[str]:
    first, *others = (str(number) for number in problem.numbers)
    held = problem.container or problem.thing
    story = [problem.name.en, " has ", first, " ", held.en, ". "]
    if problem.container:
        story += ["Each holds ", others.pop(0), " ", problem.thing.en, ". "]
    for step, (verb, number) in enumerate(zip(problem.verbs, others, strict=True)):
        sequel = step > 0 or problem.container is not None
        story += [*([THEN.en] if sequel else []), problem.name.en, verb.en, number, ". "]
    return story


def answer_pieces(problem: Problem, language: Language, results: Sequence[int] | None = None) -> list[str]:
    """Solve the problem, piece by piece: the start, one equation a step, the answer.

    Args:
        problem: What is asked.
        language: The language of the words around the equations.
        results: What each step gives, right or wrong, and what the next one goes on from; the right ones if None.
    """
    first, *others = (str(number) for number in problem.numbers)
    begin = ["はじめに", first, "個です。"] if language == "ja" else ["At first there are ", first, ". "]
    told, current = begin, first
    steps = zip(problem.kind, others, results or problem.results, strict=True)
    for step, (operator, operand, result) in enumerate(steps):
        if step > 0:
            told.append(getattr(THEN, language))
        told += [operand, getattr(BECAUSE[operator], language), current, operator, operand, "=", str(result)]
        told.append("です。" if language == "ja" else ". ")
        current = str(result)
    return told + (["答えは", current, "個です。"] if language == "ja" else ["The answer is ", current, "."])


def topics(problem: Problem) -> tuple[str, ...]:
    """Name what can be asked about the story without arithmetic."""
    return ("who", "what", "first") if problem.container else ("who", "what", "first", "next")


def reading_question_pieces(problem: Problem, topic: str, language: Language) -> list[str]:
    """Tell the story of the problem, but ask for something that stands in it."""
    return [*_story_pieces(problem, language), getattr(TOPICS[topic], language)]


def reading_answer_pieces(problem: Problem, topic: str, language: Language) -> list[str]:
    """Answer a reading question."""
    begin, end = ("答えは", "です。") if language == "ja" else ("The answer is ", ".")
    if topic in ("first", "next"):
        number = problem.numbers[0 if topic == "first" else 1]
        return [begin, str(number), "個です。" if language == "ja" else "."]
    held = problem.container or problem.thing
    return [begin, getattr(problem.name if topic == "who" else held, language), end]


def prompt_pieces(question: Sequence[str]) -> list[str]:
    """Wrap a question so that the model goes on with its answer."""
    return ["Q: ", *question, "\nA: "]


def _all_pieces() -> tuple[str, ...]:
    bilingual = (*NAMES, *THINGS, *CONTAINERS, *GAINS, *LOSSES, IN_ALL, LEFT, THEN, *BECAUSE.values(), *TOPICS.values())
    glue_ja = [
        "は",
        "を",
        "が",
        "個",
        "個持っています。",
        "それぞれに",
        "個ずつ",
        "入っています。",
        "はじめに",
        "個です。",
        "です。",
        "答えは",
    ]
    glue_en = [" has ", " ", ". ", ".", "Each holds ", "At first there are ", "The answer is "]
    pieces = ["Q: ", "\nA: ", "+", "-", "×", "=", *(str(number) for number in range(LARGEST_NUMBER + 1))]
    pieces += [phrase.ja for phrase in bilingual] + glue_ja + [phrase.en for phrase in bilingual] + glue_en
    return tuple(dict.fromkeys(pieces))


PIECES = _all_pieces()
"""Every piece of the world once, in the order of the tokenizer's ids."""
