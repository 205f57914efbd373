"""What waits between candidates, against what a search then holds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from evo_merge.baselines import start_of
from evo_merge.methods.base import MergeMethod
from evo_merge.methods.linear import Linear
from evo_merge.methods.wudi import Wudi
from evo_merge.models import residency
from evo_merge.models.assemble import Assembler
from evo_merge.models.pool import Pool
from evo_merge.models.prepared import prepared_bytes
from evo_merge.models.residency import candidate_bytes, gigabytes, weight_bytes
from evo_merge.models.waiting import waiting_bytes
from evo_merge.plan import needs_of
from evo_merge.recipe import ModelReference, ParameterRule, ParameterSpaceRecipe, Source
from evo_merge.spaces.base import Ingredients
from evo_merge.spaces.parameter import ParameterSpace
from evo_merge.tasks.tiny_math import TinyMath

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


def test_what_a_method_keeps_counts_where_the_models_wait(family: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool(base=str(family / "base"), sources=[str(family / name) for name in "ab"])
    tensors = tuple(pool.leader.shapes)
    assert pool.base is not None
    ingredients = Ingredients(pool.base.reference, pool.recipe_sources, tensors, "float32")
    methods: list[MergeMethod] = [Linear(), Wudi()]
    spaces = [ParameterSpace(ingredients, 7, method=method, granularity="model", bounds={}) for method in methods]
    linear, wudi = (start_of(space) for space in spaces)
    assert isinstance(linear, ParameterSpaceRecipe)
    assert isinstance(wudi, ParameterSpaceRecipe)
    # Room for the models with a candidate, and for less than the models with what WUDI keeps.
    kept = prepared_bytes(pool, wudi)
    free = round((weight_bytes(pool) + (candidate_bytes(pool) + kept) / 2) / 0.6)
    assert prepared_bytes(pool, linear) == 0
    assert kept > candidate_bytes(pool)
    monkeypatch.setattr(residency, "free_bytes", lambda device: free)
    settings: dict[str, Any] = {"language": None, "language_threshold": 0.5, "answer_parser": "strict", "max_new_tokens": 4}
    task = TinyMath(name="tiny", questions="en", limit={"search": 2, "validation": 1, "test": 1}, seed=0, **settings)
    plans = [needs_of(pool, [space], task, 1, CPU).residency for space in spaces]
    assert [plan.place for plan in plans] == ["device", "disk"]
    assert f"with a candidate and the {gigabytes(kept)} that the method keeps" in plans[1].reason

    assembler = Assembler(pool, CPU)
    for recipe, n_waiting in ((linear, 2), (wudi, 0), (linear, 0)):  # as sources are scored before WUDI is searched
        assembler.assemble(recipe)
        merger = assembler._mixed._merger  # type: ignore[union-attr]
        assert len(merger._resident) == n_waiting * len(tensors)
    assert not merger._states
    pool.residency = "host"  # said by the user
    asked = Assembler(pool, CPU)
    asked.assemble(wudi)
    assert asked._mixed._merger._residency == "host"  # type: ignore[union-attr]
