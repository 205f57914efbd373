"""What a generator is: it answers one batch of prompts, greedily, or says how probable given continuations are."""

from dataclasses import dataclass
from typing import Protocol

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evo_merge.evaluation.likelihood import LikelihoodBatch
from evo_merge.evaluation.prompts import PromptBatch
from evo_merge.tasks.base import LogLikelihood


@dataclass(frozen=True, slots=True)
class Completions:
    """The answers to a batch.

    Attributes:
        positions: Where each row stands in the split's examples.
        token_ids: Per row the tokens generated, up to and with the one that ended it (end of sequence, the last token
            of a stop string).
        texts: Per row the tokens decoded without special tokens, cut before the first stop string.
    """

    positions: tuple[int, ...]
    token_ids: tuple[tuple[int, ...], ...]
    texts: tuple[str, ...]

    def to(self, device: torch.device) -> "Completions":
        """Itself, since nothing of it is on a device; without this method Lightning refuses a frozen dataclass."""
        return self


class Generator(Protocol):
    """Answers batches of prompts.

    Attributes:
        batch_size: Rows of a batch.
    """

    batch_size: int

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
