"""Recipe in, scores per example out: assembles the candidate in place, has its answers predicted and scores them."""

import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Protocol

import numpy as np
import torch
from pytorch_lightning import Trainer
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evo_merge.errors import ConfigError, UnusableCandidateError
from evo_merge.evaluation.base import Evaluation, failed
from evo_merge.evaluation.cost import Cost
from evo_merge.evaluation.generator import Completions, Generator, LoadsWeights
from evo_merge.evaluation.likelihood import ScoredBatch, gather
from evo_merge.evaluation.module import AnsweringModule
from evo_merge.evaluation.prompts import render_split
from evo_merge.recipe import Recipe
from evo_merge.tasks.base import Answering, Likelihoods, LogLikelihood, Portion, Split, Task


class Assembler(Protocol):
    """Makes models of recipes."""

    def assemble(self, recipe: Recipe) -> PreTrainedModel:
        """The recipe's model on the device, until the next call; raises ``UnusableCandidateError`` where there is none."""

    def tensors(self, recipe: Recipe) -> Iterator[tuple[str, Tensor]]:
        """The weights of the recipe that was assembled last, by the names of its checkpoint."""

    def release(self) -> None:
        """Let everything go that is resident."""


class Drafts(Protocol):
    """Knows what a candidate will probably answer."""

    def of(self, recipe: Recipe, portion: Portion, n_examples: int) -> Sequence[Sequence[str]]:
        """What each example of a portion may be answered, the likeliest first; perhaps nothing."""


class Evaluator:
    """Scores recipes on the splits of one task, all with one ``Trainer``.

    Attributes:
        assembler: Builds the candidates; evaluators of several tasks may share it.
    """

    def __init__(
        self,
        assembler: Assembler,
        tokenizer: PreTrainedTokenizerBase,
        task: Task,
        generator: Generator,
        trainer: Trainer,
        splits: Sequence[Split],
        window: int | None,
    ) -> None:
        """Render the prompts.

        Args:
            assembler: Builds the candidates.
            tokenizer: Shared by all candidates.
            task: What they are asked.
            generator: How they answer.
            trainer: Its precision must be ``32-true`` (Lightning's default), which casts nothing.
            splits: What this run will need. A prompt that does not fit shows now, not after the search.
            window: Tokens that the models can attend to; ``None`` where there is no limit.
        """
        self.assembler = assembler
        self._task = task
        self._trainer = trainer
        self._drafts: Drafts | None = None
        rows, is_packed = generator.batch_size, generator.packs_prompts
        self._splits = {name: render_split(task, name, tokenizer, window, rows, is_packed=is_packed) for name in splits}
        self._module = AnsweringModule(tokenizer, generator)

    def use_drafts(self, drafts: Drafts) -> None:
        """Let a generator that takes drafts have these."""
        if self._module.generator.drafts:
            self._drafts = drafts

    def release(self) -> None:
        """Let the models go that are in memory; the next evaluation reads them again."""
        self._module.model = None
        if isinstance(self._module.generator, LoadsWeights):
            self._module.generator.release()
        self.assembler.release()

    def evaluate(self, recipe: Recipe, portion: Portion) -> Evaluation:
        """Score a recipe; one that cannot be built or scored comes back as failed, with the reason."""
        task, rendered = self._task, self._splits[portion.split].only(portion.positions)
        if self._drafts is not None:
            rendered = rendered.drafted(self._drafts.of(recipe, portion, len(rendered.examples)))
        started = time.perf_counter()
        self._module.model = None  # so that a model of the other kind is gone before the next is there
        try:
            self._module.model = model = self.assembler.assemble(recipe)
        except UnusableCandidateError as error:
            return failed(task.metrics, len(task.objectives), str(error), Cost(time.perf_counter() - started))
        assembled = time.perf_counter()
        if isinstance(self._module.generator, LoadsWeights):
            self._module.generator.load(recipe, model, self._module.tokenizer, partial(self.assembler.tensors, recipe))
        try:
            batches = self._trainer.predict(self._module, rendered)
        except UnusableCandidateError as error:
            return failed(task.metrics, len(task.objectives), str(error), Cost(assembled - started))
        except torch.OutOfMemoryError as error:
            raise ConfigError("answering ran out of the device's memory; lower generator.batch_size and start again") from error
        answers: dict[int, str | tuple[LogLikelihood, ...]] = {}
        cost = Cost(merge_seconds=assembled - started)
        compared: list[ScoredBatch] = []
        for batch in batches or []:
            if isinstance(batch, ScoredBatch):
                compared.append(batch)
                continue
            assert isinstance(batch, Completions)
            cost += batch.cost
            answers |= zip(batch.positions, batch.texts, strict=True)
        answers |= gather(compared)
        scores = [task.score(example, answers[i]) for i, example in enumerate(rendered.examples)]
        return Evaluation(
            metrics=task.metrics,
            n_objectives=len(task.objectives),
            scores=np.asarray(scores, dtype=np.float64),
            completions=tuple(_shown(answers[i], each) for i, each in enumerate(rendered.answerings)),
            written=tuple(isinstance(answers[i], str) for i in range(len(rendered.examples))),
            cost=cost + Cost(evaluation_seconds=time.perf_counter() - assembled),
            positions=portion.positions,
        )


def _shown(answer: str | tuple[LogLikelihood, ...], answering: Answering) -> str:
    """What a reader is shown: the completion, or the label of the most likely continuation, the first of equals."""
    if isinstance(answer, str):
        return answer
    assert isinstance(answering, Likelihoods)
    return answering.label(max(range(len(answer)), key=lambda pair: answer[pair].total))
