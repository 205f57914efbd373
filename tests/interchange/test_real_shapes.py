"""mergekit YAMLs of the usual kinds over the usual architectures: built, loaded by transformers, and beside a merge by hand."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from evo_merge.interchange.read import load_any
from evo_merge.models.assemble import Assembler
from evo_merge.models.checkpoint import write_checkpoint
from evo_merge.models.layer_path import FOLDABLE
from evo_merge.models.pool import Pool
from evo_merge.recipe import DataFlowRecipe
from real_shapes import SHAPES, save_family
from usual_merges import BY_HAND, YAMLS, stacked, write_yaml

TOLERANCE = 1e-6  # of a tensor's largest absolute value
# Of the largest logit, computed in float64: the last bits of the weights, which sums in another order change, as four layers
# amplify them.
LOGIT_TOLERANCE = 5e-6
# All kinds on one architecture and all architectures with three kinds; the other pairs are slow together.
QUICK = ("ties_with_filters", "stack", "dare_ties_of_three")
PAIRS = [
    pytest.param(name, kind, marks=() if kind in QUICK or name == "llama" else pytest.mark.slow)
    for name in SHAPES
    for kind in YAMLS
]


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of an architecture's models, made where it is asked for first."""
    return cache(lambda name: save_family(tmp_path_factory.mktemp(name), SHAPES[name]))


def config_of(kind: str, base: Path) -> Any:
    config = AutoConfig.from_pretrained(base)
    if kind == "stack":
        if getattr(config, "layer_types", None) is not None:
            config.layer_types = [config.layer_types[layer] for layer in (0, 1, 2, 1, 2, 3)]
        config.num_hidden_layers = 6
    return config


def logits(folder: Path) -> Tensor:
    """In float64, where two models of the same weights differ by nothing else; refuses weights too many or too few."""
    model, said = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.float64,
        attn_implementation="eager",
        experts_implementation="eager",  # the others have no float64
        output_loading_info=True,
    )
    assert not any(said[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs")), said
    return forward(model)


def forward(model: Any) -> Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=torch.arange(40).view(4, 10) + 3, use_cache=False).logits


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_what_is_built_is_the_merge_by_hand(name: str, kind: str, family: Callable[[str], Path], tmp_path: Path) -> None:
    folder, shape = family(name), SHAPES[name]
    recipe = load_any(write_yaml(kind, shape, folder))
    write_checkpoint(recipe, Pool.of_recipe(recipe), tmp_path / "built")

    weights = {key: load_file(folder / key / "model.safetensors") for key in ("base", "a", "b", "c")}
    if kind == "stack":
        expected = stacked(shape, weights["a"], weights["b"])
    else:
        expected = {
            each: BY_HAND[kind](each, shape, *(weights[key][each] for key in ("base", "a", "b", "c")))
            for each in weights["base"]
        }
    built = load_file(tmp_path / "built" / "model.safetensors")
    assert built.keys() == expected.keys()
    for each, tensor in expected.items():
        torch.testing.assert_close(built[each], tensor, rtol=0, atol=TOLERANCE * float(tensor.abs().max()), msg=each)

    save_file(expected, tmp_path / "model.safetensors", metadata={"format": "pt"})
    config_of(kind, folder / "base").save_pretrained(tmp_path)
    wanted, got = logits(tmp_path), logits(tmp_path / "built")
    torch.testing.assert_close(got, wanted, rtol=0, atol=LOGIT_TOLERANCE * float(wanted.abs().max()))
    assert float((got - logits(folder / "a")).abs().max()) > 0.01  # it is a merge, and the models do differ

    # Paths run in memory only where their scales can be folded into the weights.
    if not isinstance(recipe, DataFlowRecipe) or Pool.of_recipe(recipe).leader.config.model_type in FOLDABLE:
        in_memory = Assembler(Pool.of_recipe(recipe), torch.device("cpu")).assemble(recipe)
        assert torch.equal(forward(in_memory), forward(AutoModelForCausalLM.from_pretrained(tmp_path / "built")))


def test_the_command_builds_a_mixture_of_experts(command: Callable[..., Any], family: Callable[[str], Path]) -> None:
    folder = family("mixtral")
    path = write_yaml("ties_with_filters", SHAPES["mixtral"], folder)
    assert command(f"recipe={path}", "out=merged", verb="build").code == 0
    recipe = load_any(path)
    in_memory = Assembler(Pool.of_recipe(recipe), torch.device("cpu")).assemble(recipe)
    assert torch.equal(forward(in_memory), forward(AutoModelForCausalLM.from_pretrained("merged")))
