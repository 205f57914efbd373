"""Train the embedded tiny family: a base model and three specialists tuned from it.

The base can read both languages, plan a solution and copy numbers, but it does not calculate, and it mostly answers in
English. ``ja`` learns to answer in Japanese and never sees correct arithmetic; ``math_a`` and ``math_b`` learn to calculate
from English problems and never hear that a Japanese question wants a Japanese answer. No one of them solves the task;
their task vectors together do.

Everything follows from one seed: weights and lessons come from generators of their own, on one thread.
"""

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import WordLevel
from torch import Tensor
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from evo_merge.tasks import tiny_world as world
from evo_merge.tasks.tiny_world import Language, Problem

PAD, BOS, EOS, UNK = "<pad>", "<s>", "</s>", "<unk>"
VOCABULARY = {piece: number for number, piece in enumerate((PAD, BOS, EOS, UNK, *world.PIECES))}

ADDING_KINDS = tuple(kind for kind in world.KINDS if "×" not in kind)
MULTIPLYING_KINDS = tuple(kind for kind in world.KINDS if "×" in kind)

BATCH_SIZE = 32
WARM_UP_STEPS = 20
CONSTANT_SHARE = 0.4  # of the steps at full learning rate, before it falls to 0 in a straight line
GRADIENT_NORM = 1.0
IGNORED = -100  # torch's mark for a position without loss


@dataclass(frozen=True, slots=True)
class Lesson:
    """One training sequence and the positions whose tokens are to be learnt."""

    tokens: list[int]
    learnt: Sequence[int]


Teacher = Callable[[random.Random], Lesson]


@dataclass(frozen=True, slots=True)
class Stage:
    """How one model of the family is trained: its teacher, its length and its peak learning rate."""

    teacher: Teacher
    steps: int
    learning_rate: float
    summary: str


# --- lessons ---------------------------------------------------------------------------------------------------------


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


# --- the family ------------------------------------------------------------------------------------------------------

BASE = Stage(
    base_lesson,
    steps=500,
    learning_rate=3e-3,
    summary="The common ancestor: reads Japanese and English, plans solutions, cannot calculate, leans to English answers.",
)
SPECIALISTS = {
    "ja": Stage(
        japanese_lesson,
        steps=100,
        learning_rate=1e-3,
        summary="Answers Japanese questions in Japanese, and calculates as badly as the base.",
    ),
    "math_a": Stage(
        partial(mathematics_lesson, adding=0.7),
        steps=650,
        learning_rate=1e-3,
        summary="Calculates, with more practice in + and - than in ×, and answers in English.",
    ),
    "math_b": Stage(
        partial(mathematics_lesson, adding=0.3),
        steps=550,
        learning_rate=1e-3,
        summary="Calculates, with more practice in × than in + and -, and answers in English.",
    ),
}


def train_family(seed: int, report: Callable[[str], None] = lambda line: None) -> dict[str, LlamaForCausalLM]:
    """Train the base and, from it, the specialists.

    Args:
        seed: Decides every weight; the same on the same kind of processor with the same torch.
        report: Receives one line a finished model.

    Returns:
        The four models by name, ``base`` first.
    """
    base = new_model(seed)
    loss = train(base, BASE, _generator_of(seed, "base"))
    report(f"base: {BASE.steps} steps, loss {loss:.3f}")
    family = {"base": base}
    for name, stage in SPECIALISTS.items():
        family[name] = new_model(seed)
        family[name].load_state_dict(base.state_dict())
        loss = train(family[name], stage, _generator_of(seed, name))
        report(f"{name}: {stage.steps} steps, loss {loss:.3f}")
    return family


def _generator_of(seed: int, name: str) -> random.Random:
    return random.Random(f"tiny_ja_math/{seed}/{name}")


def new_model(seed: int) -> LlamaForCausalLM:
    """Make an untrained model of the family's shape, 180,000 parameters."""
    config = LlamaConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=128,
        tie_word_embeddings=False,
        pad_token_id=VOCABULARY[PAD],
        bos_token_id=VOCABULARY[BOS],
        eos_token_id=VOCABULARY[EOS],
    )
    with torch.random.fork_rng(devices=[]):  # the constructor draws weights from the global generator
        model = LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(seed)
    scale = 0.4 / config.hidden_size**0.5
    for parameter in model.parameters():
        if parameter.ndim > 1:  # the norms keep their ones
            torch.nn.init.normal_(parameter, std=scale, generator=generator)
    return model


def train(model: LlamaForCausalLM, stage: Stage, rng: random.Random) -> float:
    """Train a model in place on one thread, and return the loss averaged over about the last ten steps."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}],
        lr=stage.learning_rate,
        betas=(0.9, 0.98),
        fused=True,
    )
    average = float("nan")
    model.train()
    with one_thread():
        for step in range(stage.steps):
            for group in optimizer.param_groups:
                group["lr"] = stage.learning_rate * schedule(step, stage.steps)
            tokens, targets = batch([stage.teacher(rng) for _ in range(BATCH_SIZE)])
            # Padding is on the right and attention causal, so no real token sees it and no mask is needed.
            logits = model(input_ids=tokens, use_cache=False).logits[:, :-1]
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets[:, 1:].flatten(), ignore_index=IGNORED)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_NORM)
            optimizer.step()
            average = loss.item() if step == 0 else 0.9 * average + 0.1 * loss.item()
    model.eval()
    return average


def schedule(step: int, steps: int) -> float:
    """Give the share of the peak learning rate: a warm-up, a plateau, then straight down to nearly 0."""
    warm = min(1.0, (step + 1) / WARM_UP_STEPS)
    plateau = steps * CONSTANT_SHARE
    fallen = max(0.0, step - plateau) / (steps - plateau)
    return max(0.02, warm * (1.0 - fallen))


def batch(lessons: Sequence[Lesson]) -> tuple[Tensor, Tensor]:
    """Pad lessons on the right.

    Returns:
        Tokens and targets, both ``(n_lessons, longest)``; a target is the token itself where it is learnt.
    """
    longest = max(len(lesson.tokens) for lesson in lessons)
    tokens = torch.full((len(lessons), longest), VOCABULARY[PAD])
    targets = torch.full((len(lessons), longest), IGNORED)
    for row, lesson in enumerate(lessons):
        tokens[row, : len(lesson.tokens)] = torch.tensor(lesson.tokens)
        learnt = torch.tensor(lesson.learnt)
        targets[row, learnt] = tokens[row, learnt]
    return tokens, targets


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread: sums split between threads differ in their last bits from machine to machine."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


# --- files -----------------------------------------------------------------------------------------------------------


def new_tokenizer() -> PreTrainedTokenizerFast:
    """Make the tokenizer: one token a piece, the longest piece first, BOS in front; decoding joins the pieces again."""
    tokenizer = Tokenizer(WordLevel(VOCABULARY, unk_token=UNK))
    longest_first = sorted(world.PIECES, key=len, reverse=True)
    pieces = Regex("|".join(_literal(piece) for piece in longest_first))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pieces, behavior="isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, VOCABULARY[BOS])]
    )
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNK,
        padding_side="left",  # for generation in batches
        clean_up_tokenization_spaces=False,
        model_max_length=128,
    )


def _literal(piece: str) -> str:
    return "".join("\\" + character if character in "+.?-" else character for character in piece)


def write_family(family: Mapping[str, LlamaForCausalLM], folder: Path, seed: int) -> None:
    """Write one checkpoint folder a model, and the checksums of all files beside them."""
    stages = {"base": BASE, **SPECIALISTS}
    for name, model in family.items():
        write_model(model, folder / name)
        (folder / name / "README.md").write_text(model_card(name, stages[name], seed), encoding="utf-8")
    lines = [f"{digest}  {name}\n" for name, digest in checksums(folder).items()]
    (folder / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")


def write_model(model: LlamaForCausalLM, target: Path) -> None:
    """Write a model with the tokenizer into a checkpoint folder, which is made."""
    target.mkdir(parents=True, exist_ok=True)
    model.generation_config = GenerationConfig(
        pad_token_id=VOCABULARY[PAD],
        bos_token_id=VOCABULARY[BOS],
        eos_token_id=VOCABULARY[EOS],
        do_sample=False,
        max_new_tokens=32,  # the longest answer has 24
    )
    model.save_pretrained(target)
    (target / "model.safetensors").chmod(0o644)  # safetensors writes files that only their owner may read
    new_tokenizer().save_pretrained(target)


def checksums(folder: Path) -> dict[str, str]:
    """Compute the SHA-256 of every file of a family, by its path in the folder, in order."""
    files = sorted(path for path in folder.glob("*/*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def read_checksums(folder: Path) -> dict[str, str]:
    """Read a family's ``SHA256SUMS``, by the path in the folder."""
    lines = (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    return {name: digest for digest, name in (line.split("  ", maxsplit=1) for line in lines)}


def model_card(name: str, stage: Stage, seed: int) -> str:
    """Write the README of one checkpoint."""
    example = json.dumps("Q: 花子はりんごを7個持っています。5個もらいました。全部で何個ですか。\nA: ", ensure_ascii=False)
    start = "random weights" if name == "base" else "`base` of the same family"
    return f"""---
license: apache-2.0
language:
- ja
- en
library_name: transformers
pipeline_tag: text-generation
tags:
- evo-merge
- model-merging
- tiny
---

# tiny_ja_math/{name}

{stage.summary}

One of the four models of evo-merge's embedded tiny family, made to show and test model merging on any machine. It knows
nothing but its own small world of word problems and is of no use outside it.

- Shape: Llama, hidden 64, 4 layers, 4 heads, MLP 128, untied embeddings, {len(VOCABULARY)} tokens.
- Training: from {start}; {stage.steps} steps of {BATCH_SIZE} sequences; learning rate {stage.learning_rate:g}; seed {seed}.
- Data: generated problems of evo-merge's tiny world; nothing from outside.
- Made again by `python -m evo_merge.models.tiny out=DIR seed={seed}`.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{name}")
model = AutoModelForCausalLM.from_pretrained("{name}")
prompt = tokenizer({example}, return_tensors="pt")
print(tokenizer.decode(model.generate(**prompt)[0], skip_special_tokens=True))
```
"""
