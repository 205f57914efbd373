"""What waits between candidates, against what a search then holds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from evo_merge.models.assemble import Assembler
from evo_merge.models.pool import Pool
from evo_merge.models.residency import weight_bytes
from evo_merge.models.waiting import prepared_bytes, waiting_bytes
from evo_merge.recipe import ModelReference, ParameterRule, ParameterSpaceRecipe, Source

CPU = torch.device("cpu")
MakeRecipe = Callable[..., ParameterSpaceRecipe]


def held(value: Any) -> int:
    """Bytes of the tensors in a value, each counted once."""
    found: dict[int, int] = {}

    def look(each: Any) -> None:
        if isinstance(each, torch.Tensor):
            found[id(each)] = each.nbytes
        elif isinstance(each, dict):
            look(list(each.values()))
        elif isinstance(each, list | tuple):
            for inner in each:
                look(inner)
        elif hasattr(each, "__dataclass_fields__"):
            look([getattr(each, name) for name in each.__dataclass_fields__])

    look(value)
    return sum(found.values())


def test_adapters_merged_by_their_matrices_are_as_large_as_these(
    tmp_path: Path, family: Path, save_adapter: Callable[..., Path]
) -> None:
    base = ModelReference(str(family / "base"))
    folders = {name: save_adapter(tmp_path / name, family / "base", seed) for seed, name in enumerate("ab")}
    sources = tuple(Source(name, ModelReference(adapter=str(folder), base=base)) for name, folder in folders.items())
    rule = ParameterRule(("*",), {"weight": (0.5, 0.3)})
    recipe = ParameterSpaceRecipe(base, sources, "task_arithmetic", {}, (rule,), 7, "float32", "float32")
    pool = Pool.of_recipe(recipe)
    assembler = Assembler(pool, CPU)
    assembler.assemble(recipe)
    space = assembler._mixed._adapters  # type: ignore[union-attr]
    held_there = held(list(space._waiting.values())) + held(list(space._matrices.values()))
    assert waiting_bytes(pool, recipe) == held_there < weight_bytes(pool) / 2
    thinned = ParameterRule(("*",), {"weight": (0.5, 0.3), "density": (0.5, 0.5)})
    whole = ParameterSpaceRecipe(base, sources, "ties", {}, (thinned,), 7, "float32", "float32")
    assert waiting_bytes(pool, whole) == weight_bytes(pool)  # for that they are formed


@pytest.mark.parametrize("method", ["knots", "wudi", "tsv", "della", "task_arithmetic", "slerp"])
def test_what_a_method_keeps_is_about_what_is_said(family: Path, make_recipe: MakeRecipe, method: str) -> None:
    names = "ab"
    rule = {"weight": (0.5,) * 2, "density": (0.5,) * 2, "t": 0.5, "lambda": 1.0, "epsilon": (0.1,) * 2}
    known = {"knots": "wd", "wudi": "w", "tsv": "", "della": "wde", "task_arithmetic": "w", "slerp": "t"}[method]
    values = {key: value for key, value in rule.items() if key[0] in known}
    base = None if method == "slerp" else family / "base"
    recipe = make_recipe(method, base, {n: family / n for n in names}, ParameterRule(("*",), values))
    pool = Pool.of_recipe(recipe)
    assembler = Assembler(pool, CPU)
    assembler.assemble(recipe)
    kept = held(assembler._mixed._merger._states)  # type: ignore[union-attr]
    said = prepared_bytes(pool, recipe)
    if method in ("task_arithmetic", "slerp"):
        assert said == 0
        assert kept < 1000
    else:
        assert kept == pytest.approx(said, rel=0.3)
