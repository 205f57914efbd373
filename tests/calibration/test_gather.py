"""What a calibration pass measures, against sums and gradients written out."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, LlamaForCausalLM, MixtralConfig, Qwen2Config, set_seed

from evo_merge.calibration.gather import fisher_information, gram_matrices, linear_layers

ROWS = [[1, 5, 7, 2], [3, 3, 9, 11, 4, 6], [8]]


@pytest.fixture
def model() -> Any:
    set_seed(0)
    config = LlamaConfig(
        vocab_size=12,
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        initializer_range=0.5,
    )
    return LlamaForCausalLM(config).requires_grad_(requires_grad=False).eval()


def grams(model: Any, limit: int) -> list[dict[str, Tensor]]:
    return list(gram_matrices(model, ROWS, limit))


def test_gram_matrices_are_the_mean_products_of_a_layers_inputs(model: Any) -> None:
    (found,) = grams(model, limit=1 << 30)
    linear = [name for name in dict(model.named_parameters()) if "embed" not in name and "norm" not in name]
    assert sorted(found) == sorted(linear)
    # What enters the first projections are the embeddings after the first norm, what enters the head those after the last.
    with torch.no_grad():
        embedded = [model.model.layers[0].input_layernorm(model.model.embed_tokens(torch.tensor(row))) for row in ROWS]
        last = [model.model(torch.tensor([row])).last_hidden_state[0] for row in ROWS]
    for name, inputs in (("model.layers.0.self_attn.q_proj.weight", embedded), ("lm_head.weight", last)):
        rows = torch.cat(inputs)
        assert len(rows) == 11
        torch.testing.assert_close(found[name], rows.T @ rows / 11, rtol=1e-5, atol=1e-6)


def test_little_memory_reads_the_texts_more_often_and_finds_the_same(model: Any) -> None:
    (at_once,) = grams(model, limit=1 << 30)
    parts = grams(model, limit=8 * 8 * 8 * 3)  # three matrices of 8 x 8
    assert len(parts) > 4
    assert all(torch.equal(at_once[name], part[name]) for part in parts for name in part)
    assert sum(map(len, parts)) == len(at_once)


def squared_gradients(model: Any, row: list[int], labels: list[int]) -> dict[str, Tensor]:
    model.requires_grad_(requires_grad=True)
    model.zero_grad()
    logits = model(torch.tensor([row])).logits[0, :-1]
    (-torch.nn.functional.cross_entropy(logits, torch.tensor(labels), reduction="sum")).backward()
    found = {name: parameter.grad.square() for name, parameter in model.named_parameters()}
    model.zero_grad()
    model.requires_grad_(requires_grad=False)
    return found


def test_the_empirical_information_is_the_mean_square_of_each_texts_gradient(model: Any) -> None:
    found = fisher_information(model, ROWS, "text", seed=0)
    first, second = squared_gradients(model, ROWS[0], ROWS[0][1:]), squared_gradients(model, ROWS[1], ROWS[1][1:])
    assert found.keys() == dict(model.named_parameters()).keys()
    for name, information in found.items():  # the third text has nothing to predict
        torch.testing.assert_close(information, (first[name] + second[name]) / 2, rtol=1e-4, atol=1e-8)


def test_sampled_labels_give_the_expectation_over_what_the_model_expects(model: Any) -> None:
    row = [1, 5]
    with torch.no_grad():
        expected = model(torch.tensor([row])).logits[0, 0].softmax(dim=-1)
    exact: dict[str, Tensor] = {}
    for label, share in enumerate(expected):
        for name, square in squared_gradients(model, row, [label]).items():
            exact[name] = exact.get(name, 0.0) + share * square
    found = fisher_information(model, [row] * 600, "sampled", seed=3)
    for name in ("lm_head.weight", "model.layers.0.mlp.down_proj.weight", "model.norm.weight"):
        assert float((found[name] - exact[name]).norm()) < 0.15 * float(exact[name].norm())
    empirical = fisher_information(model, [row], "text", seed=3)
    assert float((empirical["lm_head.weight"] - exact["lm_head.weight"]).norm()) > float(exact["lm_head.weight"].norm())


def test_the_seed_decides_what_is_sampled_and_the_model_is_left_as_it_was(model: Any) -> None:
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    first, again, other = (fisher_information(model, ROWS, "sampled", seed) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
    assert all(torch.equal(before[name], parameter) for name, parameter in model.named_parameters())
    assert not any(parameter.requires_grad for parameter in model.parameters())


def layers_of(config: Any) -> set[str]:
    return {name.removeprefix("model.layers.0.") for name in linear_layers(AutoModelForCausalLM.from_config(config))}


def test_layers_are_named_as_in_files_and_tied_heads_and_other_kinds_of_layers_are_left_out() -> None:
    sizes = {"vocab_size": 12, "hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 8}
    attention = {f"self_attn.{name}_proj.weight" for name in "qkvo"}
    mlp = {f"mlp.{name}_proj.weight" for name in ("gate", "up", "down")}
    assert layers_of(Qwen2Config(**sizes, num_hidden_layers=1, tie_word_embeddings=True)) == attention | mlp
    experts = layers_of(MixtralConfig(**sizes, num_hidden_layers=1, num_local_experts=2))
    assert experts == attention | {"lm_head.weight"}  # the experts of a layer are one tensor in memory
    assert layers_of(GPT2Config(vocab_size=12, n_embd=8, n_layer=1, n_head=2)) == set()  # its head is tied
