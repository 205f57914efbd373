"""RegMean against a regression on the inputs themselves, and what its statistics decide."""

import pytest
import torch
from torch import Tensor

from evo_merge.methods.base import AlignedTensors, arguments, no_noise
from evo_merge.methods.regmean import Regmean

ROWS, COLUMNS = 5, 8


def drawn(n_models: int = 3, n_inputs: int = 40, columns: int = COLUMNS) -> tuple[Tensor, list[Tensor]]:
    """Layers ``(n_models, rows, columns)`` and of each the inputs ``(n_inputs, columns)``, far from independent."""
    generator = torch.Generator().manual_seed(0)
    layers = torch.randn(n_models, ROWS, columns, generator=generator)
    mixing = torch.randn(n_models, columns, columns, generator=generator)
    return layers, [torch.randn(n_inputs, columns, generator=generator) @ each for each in mixing]


def gram(inputs: Tensor) -> Tensor:
    return inputs.T @ inputs / len(inputs)


def merged(layers: Tensor, grams: list[Tensor] | None, **values: tuple[float, ...] | float) -> Tensor:
    method = Regmean()
    tensors = AlignedTensors(layers, None, None if grams is None else tuple(grams))
    return method.merge(tensors, None, no_noise, **arguments(method, values, len(layers)))


@pytest.mark.parametrize("weight", [(1.0, 1.0, 1.0), (0.2, 1.0, 0.5)])
def test_it_answers_the_sources_inputs_by_least_squares(weight: tuple[float, ...]) -> None:
    layers, inputs = drawn()
    scales = [w**0.5 for w in weight]
    seen = torch.cat([s * x for s, x in zip(scales, inputs, strict=True)]).double()
    wanted = torch.cat([s * x @ layer.T for s, x, layer in zip(scales, inputs, layers, strict=True)]).double()
    expected = torch.linalg.lstsq(seen, wanted).solution.T.float()
    found = merged(layers, [gram(x) for x in inputs], weight=weight, off_diagonal=1.0)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_without_what_is_off_the_diagonal_columns_are_averaged_by_their_energy() -> None:
    layers, inputs = drawn()
    energies = torch.stack([x.square().mean(dim=0) for x in inputs])[:, None, :]
    expected = (energies * layers).sum(dim=0) / energies.sum(dim=0)
    found = merged(layers, [gram(x) for x in inputs], weight=(1.0,) * 3, off_diagonal=0.0)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_equal_inputs_are_the_plain_average() -> None:
    layers, inputs = drawn()
    found = merged(layers, [gram(inputs[0])] * 3, weight=(0.5, 0.25, 0.25))
    torch.testing.assert_close(found, merged(layers, None, weight=(0.5, 0.25, 0.25)), rtol=1e-4, atol=1e-5)


def test_directions_without_inputs_get_the_plain_average() -> None:
    layers, inputs = drawn(n_models=2, n_inputs=3)  # six directions of eight
    grams = [gram(x) for x in inputs]
    found = merged(layers, grams, weight=(1.0, 1.0), off_diagonal=1.0)
    for layer, x in zip(layers, inputs, strict=True):
        torch.testing.assert_close(x @ found.T, x @ layer.T, rtol=1e-3, atol=1e-3)  # nothing has to be given up
    unseen = torch.linalg.svd(torch.cat(inputs), full_matrices=True).Vh[6:] * torch.stack(grams).sum(dim=0).diagonal()
    torch.testing.assert_close(unseen @ found.T, unseen @ layers.mean(dim=0).T, rtol=1e-3, atol=1e-2)


def test_inputs_a_thousand_times_larger_hide_no_other() -> None:
    layers, inputs = drawn(n_models=2, n_inputs=200)
    sizes = torch.ones(COLUMNS)
    sizes[3] = 1e4
    plain = merged(layers, [gram(x) for x in inputs], weight=(1.0, 1.0))
    found = merged(layers / sizes, [gram(x * sizes) for x in inputs], weight=(1.0, 1.0))  # the same layers in other units
    torch.testing.assert_close(found * sizes, plain, rtol=1e-3, atol=1e-4)


def test_an_input_that_is_always_0_leaves_its_column_averaged() -> None:
    layers, inputs = drawn(n_models=2)
    for x in inputs:
        x[:, 0] = 0.0
    found = merged(layers, [gram(x) for x in inputs], weight=(1.0, 1.0))
    torch.testing.assert_close(found[:, 0], layers[:, :, 0].mean(dim=0), rtol=1e-4, atol=1e-6)


def test_sources_with_weight_0_are_out() -> None:
    layers, inputs = drawn(n_models=2)
    found = merged(layers, [gram(x) for x in inputs], weight=(1.0, 0.0))
    torch.testing.assert_close(found, layers[0], rtol=1e-4, atol=1e-5)
