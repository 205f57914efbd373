"""Greedy decoding of one batch to its end, padded on the left, through the library's own cache.

For the models whose attention ``Loop`` cannot serve: sliding windows shorter than a prompt with its answer, no positions
(ALiBi), states in place of a cache.
"""

import inspect
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from evo_merge.evaluation.answers import Answer


def answer_padded(model: PreTrainedModel, prompts: Sequence[Sequence[int]], answers: Sequence[Answer]) -> None:
    """Answer prompts together; the batch ends when all rows have.

    Raises:
        UnusableCandidateError: A logit that would decide a token is not finite.
    """
    longest = max(map(len, prompts))
    # What stands in the padding is never attended to; 0 is a token of every vocabulary.
    ids = torch.tensor([[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts], device=model.device)
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=model.device)
    with torch.inference_mode():
        steps = _Steps(model, mask)
        while not all(answer.has_ended for answer in answers):
            # Nan and inf win a maximum, so that the greatest logit stands for all without reading them again.
            greatest, ids = steps(ids).max(dim=-1)
            for answer, token, is_finite in zip(answers, ids.tolist(), greatest.isfinite().tolist(), strict=True):
                if not answer.has_ended:
                    answer.add([token], [is_finite])


class _Steps:
    """The model's forward passes: the whole prompts, then one token a row."""

    def __init__(self, model: PreTrainedModel, mask: Tensor) -> None:
        self._model = model
        self._mask = mask  # (n, t), a column longer with every step
        self._positions = (mask.cumsum(dim=-1) - 1).clamp(min=0)  # (n, t), then (n, 1)
        self._cache = DynamicCache(config=model.config)
        # The few models without one of these (ALiBi has no positions) do without.
        self._accepts = frozenset(inspect.signature(model.forward).parameters)

    def __call__(self, token_ids: Tensor) -> Tensor:
        """Logits ``(n, vocabulary)`` of the next token, after ``token_ids`` ``(n, t)``, later ``(n,)``."""
        if token_ids.ndim == 1:
            token_ids = token_ids[:, None]
            self._positions = self._positions[:, -1:] + 1
            self._mask = torch.nn.functional.pad(self._mask, (0, 1), value=1)
        optional = {"position_ids": self._positions, "logits_to_keep": 1}
        output = self._model(
            input_ids=token_ids,
            attention_mask=self._mask,
            past_key_values=self._cache,
            use_cache=True,
            **{name: value for name, value in optional.items() if name in self._accepts},
        )
        logits = output.logits[:, -1]
        assert isinstance(logits, Tensor)
        return logits
