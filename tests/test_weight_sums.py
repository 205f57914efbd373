"""Weights that sum to 0, told before a model is opened."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evo_merge.errors import RecipeError
from evo_merge.recipe import ModelReference, ParameterRule, ParameterSpaceRecipe, Source
from evo_merge.weight_sums import cancelling_weights, refuse_no_sum


def recipe(
    method: str, *rules: tuple[str, tuple[float, ...]], source: ModelReference | None = None, **options: Any
) -> ParameterSpaceRecipe:
    return ParameterSpaceRecipe(
        base=ModelReference("base"),
        sources=(Source("a", source or ModelReference("a")), Source("b", ModelReference("b"))),
        method=method,
        options=options,
        parameters=tuple(ParameterRule((glob,), {"weight": weight}) for glob, weight in rules),
        seed=0,
        dtype="float32",
        out_dtype="float32",
    )


def test_an_average_without_a_sum_is_refused() -> None:
    with pytest.raises(RecipeError, match="the weights sum to 0 for all tensors, and 'linear' divides by their sum"):
        refuse_no_sum(recipe("linear", ("*", (1.0, -1.0))))
    with pytest.raises(RecipeError, match=r"the weights sum to 0 for \*mlp\*, and"):
        refuse_no_sum(recipe("linear", ("*mlp*", (1.0, -1.0)), ("*", (1.0, 1.0))))
    refuse_no_sum(recipe("linear", ("*", (1.0, -1.0)), normalize=False))
    refuse_no_sum(recipe("ties", ("*", (1.0, -1.0)), normalize=True))


def test_signs_that_are_elected_by_weights_that_cancel_are_pointed_out() -> None:
    ties = recipe("ties", ("*", (-0.7, 0.7)), normalize=True)
    (warning,) = cancelling_weights(ties)
    assert warning.startswith("the weights sum to 0 for all tensors, with normalize: 'ties' elects signs by weight")
    assert cancelling_weights(recipe("linear", ("*", (1.0, 1.0)), source=ModelReference(recipe=ties))) == [warning]


@pytest.mark.parametrize(
    "plain",
    [
        recipe("ties", ("*", (-0.7, 0.7)), normalize=False),
        recipe("ties", ("*", (-0.7, 0.8))),
        recipe("ties", ("*", (0.0, 0.0))),
        recipe("task_arithmetic", ("*", (-0.7, 0.7))),
    ],
)
def test_what_is_meant_so_is_not_pointed_out(plain: ParameterSpaceRecipe) -> None:
    assert cancelling_weights(plain) == []


YAML = """\
merge_method: ties
base_model: builtin:tiny_ja_math/base
models:
- {model: builtin:tiny_ja_math/ja, parameters: {weight: -0.7}}
- {model: builtin:tiny_ja_math/math_a, parameters: {weight: 0.7}}
parameters: {normalize: true}
"""


def test_a_build_says_so_and_goes_on(command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "merge.yml").write_text(YAML)
    ended = command("recipe=merge.yml", "out=merged", verb="build")
    assert ended.code == 0
    assert "the weights sum to 0 for all tensors, with normalize: 'ties' elects signs by weight" in " ".join(ended.out.split())


def test_a_plan_says_so_of_a_source_that_is_a_recipe(command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "ties.yaml").write_text(
        "kind: parameter_space\nbase: builtin:tiny_ja_math/base\n"
        "sources: [builtin:tiny_ja_math/ja, builtin:tiny_ja_math/math_a]\n"
        "method: {name: ties}\nparameters: [{weight: [-0.7, 0.7], density: [1, 1]}]\n"
    )
    source = "{name: made, recipe: ties.yaml}"
    ended = command("plan=true", "models.use=null", f"models.sources=[builtin:tiny_ja_math/ja,{source}]")
    assert ended.code == 0, ended.err
    assert "the weights sum to 0 for all tensors" in " ".join((ended.err + ended.out).split())
