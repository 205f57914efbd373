"""Which tensors share genes, on the tensor names of a real Llama."""

from fnmatch import fnmatchcase

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from evo_merge.errors import ConfigError
from evo_merge.spaces.granularity import TensorGroup, tensor_groups

N_LAYERS = 12  # more than ten, so that layer 1 and layer 11 could be confused


def names_of(model_class: type, config: object) -> list[str]:
    with torch.device("meta"):
        return [name for name, _ in model_class(config).named_parameters()]


def llama(*, tied: bool = False, layers: int = N_LAYERS) -> list[str]:
    return names_of(
        LlamaForCausalLM,
        LlamaConfig(
            vocab_size=16,
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=layers,
            num_attention_heads=2,
            tie_word_embeddings=tied,
        ),
    )


def taken(groups: tuple[TensorGroup, ...], names: list[str]) -> dict[str, str]:
    """Which group takes each tensor, as recipes are read: the first that matches."""
    return {
        name: next(group.name for group in groups if any(fnmatchcase(name, glob) for glob in group.globs)) for name in names
    }


def matching(groups: tuple[TensorGroup, ...], name: str) -> list[str]:
    return [group.name for group in groups if any(fnmatchcase(name, glob) for glob in group.globs)]


@pytest.mark.parametrize("granularity", ["model", 1])
def test_one_group_takes_the_whole_model(granularity: str | int) -> None:
    assert tensor_groups(granularity, llama()) == (TensorGroup("", ("*",)),)


def test_every_layer_is_a_group_and_embeddings_in_and_out_count() -> None:
    names = llama()
    groups = tensor_groups("layer", names)
    assert [group.name for group in groups] == ["embedding", *(f"layer{i}" for i in range(N_LAYERS)), "head"]
    for name in names:
        parts = name.split(".")
        expected = f"layer{parts[2]}" if parts[1] == "layers" else "embedding" if "embed" in name else "head"
        assert matching(groups, name) == [expected]
    assert {name for name, group in taken(groups, names).items() if group == "head"} == {"model.norm.weight", "lm_head.weight"}


def test_a_tied_model_has_the_last_norm_as_its_head() -> None:
    groups = tensor_groups("layer", llama(tied=True))
    assert groups[-1] == TensorGroup("head", ("model.norm.weight",))


@pytest.mark.parametrize("n_groups", range(2, N_LAYERS + 3))
def test_groups_of_layers_are_consecutive_and_cut_the_model_without_overlap(n_groups: int) -> None:
    names = llama()
    groups = tensor_groups(n_groups, names)
    assert len(groups) == n_groups
    assert len({group.name for group in groups}) == n_groups
    assert all(len(matching(groups, name)) == 1 for name in names)
    layers = taken(tensor_groups("layer", names), names)
    order = ["embedding", *(f"layer{i}" for i in range(N_LAYERS)), "head"]
    sizes = []
    place = 0
    for group in groups:
        inside = {layers[name] for name, found in taken(groups, names).items() if found == group.name}
        assert inside == set(order[place : place + len(inside)])
        place += len(inside)
        sizes.append(len(inside))
    assert place == len(order)
    assert max(sizes) - min(sizes) <= 1


def test_a_group_is_named_after_its_ends() -> None:
    assert [group.name for group in tensor_groups(3, llama(layers=4))] == ["embedding-layer0", "layer1-layer2", "layer3-head"]


def test_modules_are_told_apart_by_kind() -> None:
    names = llama()
    groups = tensor_groups("module", names)
    assert [group.name for group in groups] == ["norm", "attention", "mlp", "embedding"]
    for name, found in taken(groups, names).items():
        if "norm" in name:
            expected = "norm"
        elif "self_attn" in name:
            expected = "attention"
        else:
            expected = "mlp" if ".mlp." in name else "embedding"
        assert found == expected, name


def test_norms_inside_attention_belong_to_it() -> None:
    config = Qwen3Config(
        vocab_size=16, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2, head_dim=4
    )
    names = names_of(Qwen3ForCausalLM, config)
    found = taken(tensor_groups("module", names), names)
    assert found["model.layers.1.self_attn.q_norm.weight"] == "attention"
    assert found["model.layers.1.post_attention_layernorm.weight"] == "norm"


def test_tensors_of_no_known_kind_are_the_rest() -> None:
    names = ["model.embed_tokens.weight", "model.layers.0.mixer.weight"]
    groups = tensor_groups("module", names)
    assert [group.name for group in groups] == ["embedding", "rest"]
    assert taken(groups, names)["model.layers.0.mixer.weight"] == "rest"


@pytest.mark.parametrize("granularity", ["layers", 0, -2, 2.5, True, None])
def test_an_unknown_granularity_is_one_sentence(granularity: object) -> None:
    with pytest.raises(ConfigError, match=r"merge.granularity must be model, layer, module or a number of layer groups"):
        tensor_groups(granularity, llama())  # type: ignore[arg-type]


def test_more_groups_than_layers_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"merge.granularity: 15 groups, but there are 14 layers, embeddings included"):
        tensor_groups(15, llama())


@pytest.mark.parametrize("names", [["embed.weight", "norm.weight"], ["a.0.weight", "b.0.weight"]])
def test_layers_that_one_number_does_not_tell_apart_are_refused(names: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"merge.granularity: layers are not told apart by one number"):
        tensor_groups("layer", names)
