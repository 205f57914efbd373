"""What shows that an engine has a candidate's weights: how probable the tokens of a fixed text are, to the candidate itself."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

# The mean difference of log-probabilities that is rounding. In float32 measured: at most 4.2e-5, and 2.6e-4 where one
# projection stayed that of a neighbouring candidate; the others are estimates.
TOLERANCE = {"float32": 2e-4, "float16": 2e-2, "bfloat16": 1e-1}
_N_CHECKED = 64  # tokens of the fixed text


def window_of(config: Any, window: int | None) -> int | None:
    """Tokens that a prompt and its answer may have together; ``None`` where there is no limit."""
    limits = [each for each in (window, getattr(config, "max_position_embeddings", None)) if each is not None]
    return min(limits, default=None)


def fixed_text(config: Any, window: int | None) -> list[int]:
    """Tokens from all over the vocabulary that leave room for one more in the window."""
    room = window_of(config, window)
    n_tokens = _N_CHECKED if room is None else min(_N_CHECKED, room - 1)
    return [(7919 * i + 11) % int(config.vocab_size) for i in range(n_tokens)]


def log_probabilities(model: PreTrainedModel, ids: Sequence[int]) -> Tensor:
    """``(n - 1,)`` ``float64``, on the CPU: of every token but the first after those before it."""
    tokens = torch.tensor([list(ids)], device=model.device)
    with torch.inference_mode():
        logits = model(input_ids=tokens, use_cache=False).logits[0, :-1]  # (n - 1, vocabulary)
    chances: Tensor = logits.float().log_softmax(dim=-1).gather(1, tokens[0, 1:, None])
    return chances[:, 0].double().cpu()
