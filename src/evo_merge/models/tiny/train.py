"""Training one model of the embedded tiny family: repeatable, on one thread, with generators of its own."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from evo_merge.models.tiny.lessons import Lesson, Teacher
from evo_merge.models.tiny.vocabulary import BOS, EOS, PAD, VOCABULARY

BATCH_SIZE = 32
WARM_UP_STEPS = 20
CONSTANT_SHARE = 0.4  # of the steps at full learning rate, before it falls to 0 in a straight line
GRADIENT_NORM = 1.0
IGNORED = -100  # torch's mark for a position without loss


@dataclass(frozen=True, slots=True)
class Stage:
    """How one model of the family is trained: its teacher, its length and its peak learning rate."""

    teacher: Teacher
    steps: int
    learning_rate: float
    summary: str


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
