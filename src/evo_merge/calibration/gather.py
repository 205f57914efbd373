"""One calibration pass over texts: the diagonal Fisher information of a model's weights, or the Gram matrices of its inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from evo_merge.errors import DataError, ModelError
from evo_merge.models.skeleton import as_in_files


def fisher_information(model: Any, rows: Sequence[Sequence[int]], labels: str, seed: int) -> dict[str, Tensor]:
    """The diagonal of the Fisher information matrix, a mean over texts (Matena & Raffel 2022, section 3).

    Of each text the gradient of the log-likelihood of all its tokens, given those before, is squared. Texts are taken one at a
    time: the gradient of a batch would be that of a sum.

    Args:
        model: In eval mode; its parameters are left as they are.
        rows: Token ids; texts of fewer than two have nothing to predict.
        labels: What the gradient is of: tokens ``sampled`` from what the model itself expects at every place of the text, which
            is the Fisher information, or those of the ``text``, which is the empirical one.
        seed: Of the sampling.

    Returns:
        By parameter, tied ones once, ``(*shape)`` ``float32``.

    Raises:
        DataError: No text has two tokens.
        ModelError: The log-likelihood of a text is not finite.
    """
    long = [row for row in rows if len(row) > 1]
    if not long:
        raise DataError(
            "no text has two tokens or more, so that nothing is to be predicted; give longer ones, or raise max_tokens"
        )
    parameters = dict(model.named_parameters())
    totals = {name: torch.zeros_like(parameter, dtype=torch.float32) for name, parameter in parameters.items()}
    generator = torch.Generator().manual_seed(seed)
    model.requires_grad_(requires_grad=True)
    try:
        for row in long:
            ids = torch.tensor([row], device=model.device)
            expected = torch.log_softmax(model(input_ids=ids, use_cache=False).logits[0, :-1].float(), dim=-1)
            if labels == "sampled":
                # Drawn on the CPU, so that every device draws the same of the same probabilities.
                drawn = torch.multinomial(expected.detach().exp().cpu(), 1, generator=generator).to(expected.device)
            else:
                drawn = ids[0, 1:, None]
            likelihood = expected.gather(1, drawn).sum()
            if not torch.isfinite(likelihood):
                raise ModelError("the log-likelihood of a text is not finite; the model cannot be calibrated")
            found = torch.autograd.grad(likelihood, list(parameters.values()), allow_unused=True)
            for total, gradient in zip(totals.values(), found, strict=True):
                if gradient is not None:  # else it had no part in the text, as an expert that no token was sent to
                    total += gradient.float().square()
    finally:
        model.requires_grad_(requires_grad=False)
    return {name: total / len(long) for name, total in totals.items()}


def gram_matrices(model: Any, rows: Sequence[Sequence[int]], limit: int) -> Iterator[dict[str, Tensor]]:
    """The mean of ``x x^T`` over the inputs of every linear layer, a mean over all tokens of the texts (Jin et al. 2023).

    Products are taken in ``float32`` and summed in ``float64``. Where the matrices of all layers are larger than ``limit``, the
    texts are read once for each part of them that is not.

    Args:
        model: In eval mode.
        rows: Token ids.
        limit: Bytes that the sums of one reading may take; one matrix may be larger.

    Yields:
        By the name that the layer's weight has in files, ``(columns, columns)`` ``float32`` on the CPU.
    """
    layers = linear_layers(model)
    n_tokens = max(1, sum(map(len, rows)))
    for part in _parts(layers, limit):
        sums = {
            name: torch.zeros(module.in_features, module.in_features, dtype=torch.float64, device=model.device)
            for name, module in part.items()
        }
        hooks = [module.register_forward_pre_hook(_adding(sums[name])) for name, module in part.items()]
        try:
            with torch.no_grad():
                for row in filter(None, rows):
                    model(input_ids=torch.tensor([row], device=model.device), use_cache=False)
        finally:
            for hook in hooks:
                hook.remove()
        yield {name: (total / n_tokens).float().cpu() for name, total in sums.items()}


def linear_layers(model: Any) -> dict[str, nn.Linear]:
    """The linear layers by the names that their weights have in files; not heads that are embeddings as well.

    Layers that are no ``nn.Linear`` are not among them, as those of GPT-2, which multiply from the other side, and experts that
    are one tensor in memory.
    """
    tied = {module.weight.data_ptr() for module in model.modules() if isinstance(module, nn.Embedding)}
    names = {(tensor.data_ptr(), tensor.shape): name for name, tensor in as_in_files(model).items()}
    found = [module for module in model.modules() if isinstance(module, nn.Linear) and module.weight.data_ptr() not in tied]
    placed = [(names.get((module.weight.data_ptr(), module.weight.shape)), module) for module in found]
    return {name: module for name, module in placed if name is not None}


def _adding(total: Tensor) -> Any:
    def add(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        rows = inputs[0].reshape(-1, inputs[0].shape[-1]).float()
        total.add_(rows.T @ rows)

    return add


def _parts(layers: Mapping[str, nn.Linear], limit: int) -> Iterator[dict[str, nn.Linear]]:
    part: dict[str, nn.Linear] = {}
    filled = 0
    for name, module in layers.items():
        size = 8 * module.in_features**2
        if part and filled + size > limit:
            yield part
            part, filled = {}, 0
        part[name] = module
        filled += size
    if part:
        yield part
