"""What a generator is: it answers prompts, greedily, or says how probable given continuations are."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evo_merge.evaluation.cost import Cost
from evo_merge.evaluation.likelihood import LikelihoodBatch
from evo_merge.evaluation.prompts import PromptBatch
from evo_merge.recipe import Recipe
from evo_merge.tasks.base import LogLikelihood


@dataclass(frozen=True, slots=True)
class Completions:
    """The answers to a batch.

    Attributes:
        positions: Where each row stands in the split's examples.
        token_ids: Per row the tokens generated, up to and with the one that ended it (end of sequence, the last token
            of a stop string).
        texts: Per row the tokens decoded without special tokens, cut before the first stop string.
        n_degenerate: Answers that were given up because they repeated themselves.
        n_drafted: Tokens that drafts proposed.
        n_accepted: Those of them that greedy decoding would have chosen.
    """

    positions: tuple[int, ...]
    token_ids: tuple[tuple[int, ...], ...]
    texts: tuple[str, ...]
    n_degenerate: int = 0
    n_drafted: int = 0
    n_accepted: int = 0

    @property
    def cost(self) -> Cost:
        """Tokens, not seconds."""
        return Cost(
            new_tokens=sum(len(ids) for ids in self.token_ids),
            n_degenerate=self.n_degenerate,
            n_drafted=self.n_drafted,
            n_accepted=self.n_accepted,
        )

    def to(self, device: torch.device) -> "Completions":
        """Itself, since nothing of it is on a device; without this method Lightning refuses a frozen dataclass."""
        return self


class Generator(Protocol):
    """Answers batches of prompts.

    Attributes:
        batch_size: Rows that are in memory together at most.
        packs_prompts: Whether a call takes all prompts that are answered the same way, however many, and packs them itself.
        drafts: Whether it makes use of a batch's drafts.
    """

    batch_size: int
    packs_prompts: bool
    drafts: bool

    def generate(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch: PromptBatch) -> Completions:
        """Complete every prompt of a batch that is on the model's device, as the batch's ``decoding`` says.

        Same weights and same batch, same completions. Raises ``UnusableCandidateError`` where logits are not finite.
        """

    def likelihoods(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch: LikelihoodBatch
    ) -> tuple[LogLikelihood, ...]:
        """One for each of the batch's ``scored``, in their order.

        Raises ``UnusableCandidateError`` where one is not finite.
        """


@runtime_checkable
class LoadsWeights(Protocol):
    """A generator that answers with a copy of the weights, in an engine of its own.

    Attributes:
        cache_bytes: What the engine takes for keys and values.
        window: Tokens of the longest prompt with its answer, where that is less than the models can attend to.
    """

    cache_bytes: int
    window: int | None

    def load(
        self,
        recipe: Recipe,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        tensors: Callable[[], Iterator[tuple[str, Tensor]]],
    ) -> None:
        """Say whose answers are wanted next.

        Args:
            recipe: The same recipe has the same weights.
            model: On its device until the next call.
            tokenizer: Shared by all candidates.
            tensors: The model's weights as its checkpoint has them, while the model is there.
        """

    def release(self) -> None:
        """Let everything go that is in memory."""
