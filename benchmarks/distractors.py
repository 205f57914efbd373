"""Useless sources: fine-tunes of the embedded family's base on text that has nothing to do with its problems.

``python benchmarks/distractors.py DIR`` trains all of them; ``benchmarks/distraction.py`` does it by itself. Each learns to go
on with one sort of text over the family's own words: no question, no answer, no equation. Their task vectors are about as
long as those of the useful sources.
"""

import math
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from transformers import LlamaForCausalLM
from transformers.utils.logging import disable_progress_bar

from evo_merge.models.tiny.__main__ import SHIPPED
from evo_merge.models.tiny.family import write_model
from evo_merge.models.tiny.lessons import Lesson
from evo_merge.models.tiny.train import Stage, train
from evo_merge.models.tiny.vocabulary import BOS, EOS, VOCABULARY
from evo_merge.tasks import tiny_world as world
from evo_merge.tasks.tiny_world import Language

STEPS, LEARNING_RATE = 100, 1e-3  # those of the useful source ja
LENGTH = 36  # pieces of a text, as many as a problem with its answer has

# What makes a question, and what makes an equation; no useless text has them.
ASKED = [phrase for asked in (world.IN_ALL, world.LEFT, *world.TOPICS.values()) for phrase in asked]
NOT_USED = frozenset({"Q: ", "\nA: ", *ASKED, "+", "-", "×", "="})

Text = Callable[[random.Random], Sequence[str]]


def lesson_of(text: Text) -> Callable[[random.Random], Lesson]:
    """Learn every piece of a text and its end."""

    def lesson(rng: random.Random) -> Lesson:
        pieces = (BOS, *list(text(rng))[:LENGTH], EOS)
        return Lesson([VOCABULARY[piece] for piece in pieces], range(1, len(pieces)))

    return lesson


# --- the texts -------------------------------------------------------------------------------------------------------


def counting(rng: random.Random) -> list[str]:
    """Count up or down in equal steps, and from the other end again."""
    numbers = range(rng.randint(0, 9), world.LARGEST_NUMBER + 1, rng.randint(1, 5))
    order = list(numbers if rng.random() < 0.5 else reversed(numbers))
    return [piece for number in order * LENGTH for piece in (str(number), " ")]


def dictionary(rng: random.Random) -> list[str]:
    """Words of one language, each followed by the same word of the other."""
    words = rng.choices((*world.NAMES, *world.THINGS, *world.CONTAINERS), k=LENGTH)
    return [piece for word in words for piece in (word.ja, " ", word.en, ". ")]


def roll_call(rng: random.Random) -> list[str]:
    """Name everybody in a fixed order, from anybody on, with things in another fixed order."""
    language: Language = rng.choice(("ja", "en"))
    name, thing = rng.randrange(len(world.NAMES)), rng.randrange(len(world.THINGS))
    people, things = _turned(world.NAMES, name), _turned(world.THINGS, thing)
    pairs = zip(people * LENGTH, things * LENGTH, strict=False)
    return [getattr(word, language) for pair in pairs for word in pair]


def refrain(rng: random.Random) -> list[str]:
    """A few random pieces again and again."""
    return rng.choices(_pieces(), k=rng.randint(2, 6)) * LENGTH


def backwards(rng: random.Random) -> list[str]:
    """A story from its end to its beginning, and another one."""
    language: Language = rng.choice(("ja", "en"))
    return [piece for _ in range(4) for piece in reversed(_story(rng, language))]


def chatter(rng: random.Random) -> list[str]:
    """Parts of several stories, in turn: a sentence in one language, a sentence in the other."""
    parts = [part for language in ("ja", "en") for _ in range(4) for part in _sentences(_story(rng, language))]
    rng.shuffle(parts)
    return [piece for part in parts for piece in part]


def salad_ja(rng: random.Random) -> list[str]:
    """Japanese words in any order."""
    return rng.choices([piece for piece in _pieces() if not piece.isascii() or piece.isdigit()], k=LENGTH)


def salad_en(rng: random.Random) -> list[str]:
    """English words in any order."""
    return rng.choices([piece for piece in _pieces() if piece.isascii()], k=LENGTH)


def _pieces() -> list[str]:
    return [piece for piece in world.PIECES if piece not in NOT_USED]


def _turned(words: Sequence[world.Phrase], first: int) -> list[world.Phrase]:
    return [*words[first:], *words[:first]]


def _story(rng: random.Random, language: Language) -> list[str]:
    return world.question_pieces(world.draw_problem(rng, "train"), language)[:-1]  # without what is asked


def _sentences(pieces: Sequence[str]) -> Iterator[list[str]]:
    sentence: list[str] = []
    for piece in pieces:
        sentence.append(piece)
        if piece.endswith(("。", ". ")):
            yield sentence
            sentence = []


TEXTS: dict[str, Text] = {
    text.__name__: text for text in (counting, salad_ja, dictionary, backwards, refrain, salad_en, roll_call, chatter)
}
"""By name, in the order in which they join a pool."""


# --- the models ------------------------------------------------------------------------------------------------------


def useless_sources(folder: Path, note: Callable[[str], None] = lambda line: None) -> dict[str, Path]:
    """Train what is not there yet, each in about 5 seconds; gives the folders by name, in the order of ``TEXTS``."""
    disable_progress_bar()
    for name, text in TEXTS.items():
        if not (folder / name / "config.json").exists():
            model = LlamaForCausalLM.from_pretrained(SHIPPED / "base")
            loss = train(model, Stage(lesson_of(text), STEPS, LEARNING_RATE, ""), random.Random(f"distractors/{name}"))
            write_model(model, folder / name)
            note(f"{name}: {STEPS} steps, loss {loss:.3f}, task vector of length {task_vector_length(model):.1f}")
    return {name: folder / name for name in TEXTS}


def task_vector_length(model: LlamaForCausalLM) -> float:
    """Euclidean norm of a model of the family minus the base."""
    base = LlamaForCausalLM.from_pretrained(SHIPPED / "base").state_dict()
    return math.sqrt(sum(float((tensor - base[name]).square().sum()) for name, tensor in model.state_dict().items()))


if __name__ == "__main__":
    useless_sources(Path(sys.argv[1]), note=lambda line: print(line, flush=True))
