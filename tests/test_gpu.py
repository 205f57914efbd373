"""What needs a GPU: a candidate merged there has the bits of the checkpoint that is written by the CPU."""

import pytest
import torch

from evo_merge.methods.base import method_from_recipe
from evo_merge.models.merging import TensorMerger
from evo_merge.models.pool import Pool
from evo_merge.recipe import ParameterRule, ParameterSpaceRecipe

ELEMENTWISE = ("linear", "task_arithmetic", "dare_linear", "dare_ties")


@pytest.mark.gpu
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_a_gpu_merges_the_bits_that_a_cpu_merges(name: str) -> None:
    family = "builtin:tiny_ja_math"
    pool = Pool(base=f"{family}/base", sources=[f"{family}/ja", f"{family}/math_a", f"{family}/math_b"])
    assert pool.base is not None
    values = {parameter.name: (0.3, 0.9, 0.45) for parameter in method_from_recipe(name, {}).parameters}
    recipe = ParameterSpaceRecipe(
        base=pool.base.reference,
        sources=pool.recipe_sources,
        method=name,
        options={},
        parameters=(ParameterRule(("*",), values),),
        seed=3,
        dtype="float32",
        out_dtype="float32",
    )
    cpu, gpu = (TensorMerger(pool, torch.device(device)).of(recipe) for device in ("cpu", "cuda"))

    for tensor in pool.leader.shapes:
        assert torch.equal(cpu[tensor], gpu[tensor].cpu())
