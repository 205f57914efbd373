import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config

from evo_merge.evaluation.vllm.weights import deepened, fits, remove_weights, write_weights

SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "vocab_size": 64}


@pytest.mark.parametrize(("depth", "is_fit"), [(1, True), (3, True), (4, False)])
def test_a_model_fits_an_engine_that_is_at_least_as_deep(depth, is_fit):
    engine = LlamaConfig(**SMALL, num_hidden_layers=3)

    assert fits(LlamaConfig(**SMALL, num_hidden_layers=depth), engine) == is_fit
    assert not fits(LlamaConfig(**SMALL, num_hidden_layers=depth, rms_norm_eps=1e-3), engine)
    assert not fits(LlamaConfig(**SMALL, num_hidden_layers=depth, tie_word_embeddings=True), engine)


def test_layers_of_different_types_fit_in_their_order():
    full, sliding = "full_attention", "sliding_attention"

    def config(*types):
        return Qwen2Config(**SMALL, num_hidden_layers=len(types), layer_types=list(types))

    engine = config(full, sliding, full)

    assert fits(config(full, sliding), engine)
    assert not fits(config(sliding, full), engine)


def test_layers_of_zeros_behind_the_last_change_no_logit():
    shallow = LlamaForCausalLM(LlamaConfig(**SMALL, num_hidden_layers=2)).eval()
    deep = LlamaForCausalLM(LlamaConfig(**SMALL, num_hidden_layers=5)).eval()
    ids = torch.arange(12)[None]

    deep.load_state_dict(dict(deepened(shallow.named_parameters(), 2, 5)))

    with torch.no_grad():
        assert torch.equal(deep(ids).logits, shallow(ids).logits)


def test_weights_pass_through_files_also_those_that_share_memory(tmp_path):
    tensor = torch.randn(4, 3)
    write_weights(iter([("old", tensor)]), tmp_path)

    write_weights(iter([("a", tensor), ("b", tensor), ("c", tensor.T)]), tmp_path)

    found = {name: each for file in tmp_path.glob("*.safetensors") for name, each in load_file(file).items()}
    assert found.keys() == {"a", "b", "c"}
    assert torch.equal(found["b"], tensor)
    assert torch.equal(found["c"], tensor.T)
    remove_weights(tmp_path)
    assert not list(tmp_path.iterdir())
