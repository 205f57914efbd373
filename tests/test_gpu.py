"""What needs a GPU: a candidate merged there has the bits of the checkpoint that is written by the CPU."""

import pytest
import torch

from evo_merge.methods.base import method_from_recipe
from evo_merge.models.assemble import Assembler
from evo_merge.models.merging import TensorMerger
from evo_merge.models.pool import Pool
from evo_merge.recipe import DataFlowRecipe, ModelReference, ParameterRule, ParameterSpaceRecipe, Source, Step

ENTRYWISE = ("linear", "task_arithmetic", "ties", "dare_linear", "dare_ties", "breadcrumbs")


@pytest.mark.gpu
@pytest.mark.parametrize("compile", ["never", "always"])
@pytest.mark.parametrize("name", ENTRYWISE)
def test_a_gpu_merges_the_bits_that_a_cpu_merges(name: str, compile: str) -> None:
    family = "builtin:tiny_ja_math"
    pool = Pool(base=f"{family}/base", sources=[f"{family}/ja", f"{family}/math_a", f"{family}/math_b"])
    assert pool.base is not None
    values = {p.name: (0.3, 0.9, 0.45) if p.per_source else 0.9 for p in method_from_recipe(name, {}).parameters}
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
    cpu = TensorMerger(pool, torch.device("cpu"), compile="never").of(recipe)
    gpu = TensorMerger(pool, torch.device("cuda"), compile=compile).of(recipe)

    for tensor in pool.leader.shapes:
        assert torch.equal(cpu[tensor], gpu[tensor].cpu())


@pytest.mark.gpu
def test_a_gpu_runs_a_path_as_a_cpu_does() -> None:
    models = tuple(Source(name, ModelReference(f"builtin:tiny_ja_math/{name}")) for name in ("math_a", "ja"))
    hops = [("math_a", 0, 1.0), ("math_a", 1, 0.9), ("ja", 2, -1.1), ("ja", 2, 1.2), ("math_a", 3, 0.8)]
    recipe = DataFlowRecipe(models, tuple(Step(*hop) for hop in hops), "residual", "float32")
    tokens = torch.tensor([[5, 9, 40, 17, 3], [8, 8, 61, 2, 30]])
    logits = []
    for name in ("cpu", "cuda"):
        model = Assembler(Pool.of_recipe(recipe), torch.device(name)).assemble(recipe)
        with torch.no_grad():
            logits.append(model(tokens.to(name)).logits.cpu())

    torch.testing.assert_close(*logits, rtol=0, atol=1e-3)
