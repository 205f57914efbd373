"""The Lightning side: a module whose prediction is the answers to a batch of prompts."""

import logging
import warnings
from typing import Self

from pytorch_lightning import LightningModule
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evo_merge.evaluation.generator import Completions, Generator
from evo_merge.evaluation.likelihood import LikelihoodBatch, ScoredBatch
from evo_merge.evaluation.prompts import PromptBatch


class AnsweringModule(LightningModule):
    """A model that answers prompts; the candidate's, exchanged between two predictions."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, generator: Generator) -> None:
        super().__init__()
        self.model: PreTrainedModel | None = None
        self.tokenizer = tokenizer
        self.generator = generator

    def predict_step(self, batch: PromptBatch | LikelihoodBatch) -> Completions | ScoredBatch:
        """Answer one batch."""
        assert self.model is not None, "the evaluator puts one here before it predicts"
        if isinstance(batch, LikelihoodBatch):
            return ScoredBatch(batch.scored, self.generator.likelihoods(self.model, self.tokenizer, batch))
        return self.generator.generate(self.model, self.tokenizer, batch)

    def cpu(self) -> Self:
        """Stay where it is.

        ``Strategy.teardown`` calls this at the end of every ``Trainer.predict``. Obeyed, it would carry all weights off
        the device and the next call carry them back, for every candidate, which would be assembled on the CPU besides.
        """
        return self


def silence_lightning() -> None:
    """Keep Lightning from telling, for every candidate, which devices it found; warnings still come through.

    To be called before the ``Trainer`` is built, which has its own lines to say.
    """
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Lightning 2.6 with PyTorch 2.13; nothing a user can mend.
    warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")
