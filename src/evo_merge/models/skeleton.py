"""A model's modules: those of an architecture without weights, and filled with the weights of one model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from evo_merge.errors import IncompatibleModelsError

if TYPE_CHECKING:
    from evo_merge.models.model import Model


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


def as_in_files(model: Any) -> dict[str, Tensor]:
    """A model's parameters under the names and in the shapes in which they lie in files, tied ones once.

    For some architectures transformers renames weights when it loads them, or joins them: experts that lie in files each by
    itself are one tensor in memory. What is returned are views of the model's own parameters, so that whatever is copied into
    them is in the model; ``are_views`` tells where that cannot be.
    """
    from transformers.core_model_loading import revert_weight_conversion

    with _WithoutCopies():
        return dict(revert_weight_conversion(model, dict(model.named_parameters())))


def are_views(tensors: Iterable[Tensor], model: Any) -> bool:
    """Whether tensors are views of a model's parameters; false where transformers rearranges entries when it loads them."""
    own = [parameter.untyped_storage() for parameter in model.parameters()]
    ids = {id(storage) for storage in own}  # a storage is one object, on the meta device too
    return all(id(tensor.untyped_storage()) in ids for tensor in tensors)


class _WithoutCopies(TorchFunctionMode):
    """Keeps pieces of tensors views: transformers asks for contiguous ones, to write them to files."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0] if func is Tensor.contiguous else func(*args, **(kwargs or {}))


def filled_model(model: Model, dtype: torch.dtype, device: torch.device) -> Any:
    """The model on a device, in eval mode; raises ``ModelError`` where its weights cannot be read or are not finite."""
    with device:
        filled = empty_model(model.config, dtype)
    parameters = dict(filled.named_parameters())  # tied ones once
    refuse_lacking(parameters, model)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(model.read(name))
    model.forget()  # the filled model has it all
    return filled


def refuse_lacking(names: Iterable[str], model: Model) -> None:
    """Refuse a model that has not all tensors of its architecture; raises ``IncompatibleModelsError``."""
    if lacking := [name for name in names if name not in model.shapes]:
        raise IncompatibleModelsError(
            f"'{model.name}' has no tensor '{lacking[0]}', which its architecture needs; its files are incomplete, "
            "or named in a way that cannot be merged"
        )
