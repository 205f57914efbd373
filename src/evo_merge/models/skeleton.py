"""A model without weights: the modules of an architecture, to be filled."""

from typing import Any

import torch


def empty_model(config: Any, dtype: torch.dtype) -> Any:
    """A causal language model in eval mode whose parameters hold no numbers yet; its buffers (rotary tables) are right.

    Random initialisation would take minutes at 7B parameters, and memory that is not written to is not taken.
    """
    from transformers import AutoModelForCausalLM
    from transformers.initialization import no_init_weights

    with no_init_weights():
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    model.tie_weights()  # left out together with the initialisation
    return model.requires_grad_(requires_grad=False).eval()
