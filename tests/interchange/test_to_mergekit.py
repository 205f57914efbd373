"""Recipes as mergekit YAML: what is written is read back as the same recipe, and what mergekit cannot say is not written."""

import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hydra.utils import instantiate
from omegaconf import OmegaConf

from evo_merge.interchange.from_mergekit import from_mergekit
from evo_merge.interchange.mergekit_methods import BASE, METHODS
from evo_merge.interchange.mergekit_stacks import Shape
from evo_merge.interchange.to_mergekit import InexpressibleError, mergekit_yaml
from evo_merge.methods.base import method_from_recipe, options_of, wrong_number_of_sources
from evo_merge.recipe import ModelReference, ParameterRule, ParameterSpaceRecipe, Source, rule_of
from evo_merge.spaces.base import Ingredients
from evo_merge.spaces.parameter import ParameterSpace

CONF = Path(__file__).parents[2] / "conf" / "merge"
PARTS = ("self_attn.q_proj.weight", "self_attn.o_proj.weight", "mlp.down_proj.weight", "input_layernorm.weight")


def tensors_of(n_layers: int) -> list[str]:
    layers = (f"model.layers.{i}.{part}" for i in range(n_layers) for part in PARTS)
    return ["model.embed_tokens.weight", *layers, "model.norm.weight"]


TENSORS = tensors_of(12)
OURS = {"equals": "sorted", "norm_floor": 1e-6, "energy_floor": 1e-6, "rescale": "norm"}  # options as mergekit has them


def read(text: str) -> Any:
    return from_mergekit(text, "file", lambda _: Shape(12, TENSORS, "float32"))


def recipe_of(name: str, rules: list[tuple[tuple[str, ...], float]] | None = None, **options: Any) -> ParameterSpaceRecipe:
    """A recipe of a method: in every rule the parameters are a share of their box."""
    method = instantiate(OmegaConf.load(CONF / f"{name}.yaml").method)
    known = options_of(method) | ({"equals": "all", "rescale": "none"} if name == "ties" else {})
    method = replace(method, **({key: value for key, value in OURS.items() if key in known} | options))
    n_sources = next(n for n in (3, 2, 1) if not wrong_number_of_sources(method, n))
    theirs = {setting.our_name for setting in METHODS[name].settings}
    sources = tuple(Source(f"m{i}", ModelReference(f"org/m{i}")) for i in range(n_sources))

    def values(share: float) -> dict[str, tuple[float, ...] | float]:
        drawn = {
            p.name: p.low + (0.5 + 0.1 * share) * (p.high - p.low) if p.name in theirs else p.start for p in method.parameters
        }
        drawn |= {"epsilon": 0.05} if name.startswith("della") else {}
        return {
            p.name: (drawn[p.name],) * n_sources if p.per_source else drawn[p.name]
            for p in method.parameters
            if p.name in theirs
        }

    return ParameterSpaceRecipe(
        base=ModelReference("org/base", "v1") if METHODS[name].base == BASE or method.needs_base else None,
        sources=sources,
        method=name,
        options=options_of(method),
        parameters=tuple(ParameterRule(globs, values(share)) for globs, share in rules or [(("*",), 0.0)]),
        seed=0,
        dtype="float32",
        out_dtype="bfloat16",
    )


@pytest.mark.parametrize("name", sorted(METHODS))
def test_what_is_written_is_read_back_as_the_same_recipe(name: str) -> None:
    for rules in ([(("*",), 0.0)], [(("*self_attn*",), 1.0), (("model.layers.1.*", "model.layers.2.*"), 2.0), (("*",), 3.0)]):
        recipe = recipe_of(name, rules if recipe_of(name).parameters[0].values else None)
        text = mergekit_yaml(recipe, TENSORS)
        assert read(text) == recipe


@pytest.mark.parametrize("name", ["nuslerp", "multislerp"])
def test_a_base_makes_task_vectors(name: str) -> None:
    recipe = recipe_of(name, task_vectors=True)
    text = mergekit_yaml(recipe, TENSORS)
    assert "base_model" in yaml.safe_load(text)
    assert read(text) == recipe


def test_rules_are_filters_and_the_rest_is_the_default() -> None:
    recipe = recipe_of("linear", [(("model.layers.1.*",), 1.0), (("*mlp*",), 2.0), (("*",), 3.0)])
    weight = yaml.safe_load(mergekit_yaml(recipe, TENSORS))["models"][0]["parameters"]["weight"]
    assert [condition.get("filter") for condition in weight] == ["model.layers.1.", "mlp", None]
    assert [condition["value"] for condition in weight] == pytest.approx([0.6, 0.7, 0.8])


def test_a_glob_that_is_no_part_of_names_is_written_name_by_name() -> None:
    recipe = recipe_of("linear", [(("model.layers.1.*norm*",), 1.0), (("*",), 2.0)])
    weight = yaml.safe_load(mergekit_yaml(recipe, TENSORS))["models"][0]["parameters"]["weight"]
    assert [each.get("filter") for each in weight] == ["model.layers.1.input_layernorm.weight", None]


@pytest.mark.parametrize("n_layers", [12, 24, 30, 48])
def test_gradients_are_written_as_they_were_read(n_layers: int) -> None:
    """In short lists, of which mergekit's arithmetic makes the very numbers of the recipe, for any number of layers."""
    text = textwrap.dedent("""\
        models:
        - model: org/a
          parameters:
            weight: [0.0, 0.3, 1.0, 0.7]
            density:
            - filter: mlp
              value: [0.9, 0.4]
            - value: 0.5
        - model: org/b
          parameters:
            weight:
            - filter: model.embed_tokens.weight
              value: 0.2
            - value: [1.0, 0.25, 1.0]
            density: 0.5
        merge_method: ties
        base_model: org/base
        parameters:
          lambda: [1.0, 0.5]
        dtype: float32
        """)
    names = tensors_of(n_layers)
    recipe = from_mergekit(text, "file", lambda _: Shape(n_layers, names, "float32"))
    assert mergekit_yaml(recipe, names) == text


@pytest.mark.parametrize("n_layers", [2, 12, 24, 30, 36, 48, 80])
@pytest.mark.parametrize("granularity", [{"groups": 2, "smooth": True}, {"layers": 2, "filters": ["mlp", "q_proj"]}])
def test_what_a_search_found_by_depth_is_a_list_and_not_a_filter_a_layer(n_layers: int, granularity: dict[str, Any]) -> None:
    names = tensors_of(n_layers)
    like = recipe_of("ties", equals="sorted", rescale="none")
    ingredients = Ingredients(like.base, like.sources, names, "float32")
    method = method_from_recipe("ties", like.options)
    space = ParameterSpace(ingredients, 7, method=method, granularity=granularity, bounds={"density": [0.2, 1.0]})
    recipe = space.decode(np.random.default_rng(n_layers).uniform(0.2, 1.0, len(space.genes)))  # numbers of all their digits
    text = mergekit_yaml(recipe, names)
    read = from_mergekit(text, "file", lambda _: Shape(n_layers, names, "float32"))
    assert isinstance(read, ParameterSpaceRecipe)
    for name in names:
        found, expected = rule_of(read, name).values, rule_of(recipe, name).values
        assert {key: found[key] for key in expected} == expected  # to the last place
    settings = 3 * 2  # sources, weight and density
    assert text.count("filter:") <= settings * 3  # of mlp, q_proj, and the norm at the end, which is outside of the layers


def test_chance_and_equal_magnitudes_are_noted() -> None:
    assert mergekit_yaml(recipe_of("dare_ties"), TENSORS).startswith("# mergekit draws chances of its own")
    assert mergekit_yaml(recipe_of("ties", equals="all"), TENSORS).startswith("# Of entries as large as the smallest")
    assert mergekit_yaml(recipe_of("ties"), TENSORS).startswith("models:")


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (recipe_of("dare_ties", rescale="density"), "no 'rescale: density'"),
        (recipe_of("della", rescale="density"), "no 'rescale: density'"),
        (recipe_of("ties", equals="all", trim="model"), "no 'trim: model'; it always has tensor"),
        (recipe_of("breadcrumbs", trim="model"), "no 'trim: model'; it always has tensor"),
        (recipe_of("breadcrumbs_ties", trim="model"), "no 'trim: model'; it always has tensor"),
        (recipe_of("model_stock", norm_floor=0.0), "no 'norm_floor: 0.0'"),
        (recipe_of("sce", energy_floor=0.0), "no 'energy_floor: 0.0'"),
        (
            replace(recipe_of("karcher"), parameters=(ParameterRule(("*",), {"weight": (0.5, 0.5, 1.0)}),)),
            "no parameter 'weight' of this method",
        ),
        (replace(recipe_of("model_stock"), parameters=(ParameterRule(("*",), {"lambda": 0.5}),)), "no parameter 'lambda'"),
        (replace(recipe_of("arcee_fusion"), parameters=(ParameterRule(("*",), {"spread": 1.0}),)), "no parameter 'spread'"),
        (
            replace(recipe_of("linear"), sources=(Source("a", ModelReference("builtin:tiny_ja_math/ja")),) * 1),
            "no name for 'builtin:tiny_ja_math/ja'",
        ),
        (replace(recipe_of("passthrough"), sources=(Source("a", ModelReference(recipe=recipe_of("linear"))),)), "no name for"),
        (
            replace(recipe_of("ties"), parameters=(ParameterRule(("*",), {"weight": (1.0,) * 3, "density": (0.0, 1.0, 1.0)}),)),
            "refuses some of its numbers",
        ),
        (replace(recipe_of("linear"), method="knots", options={}), "no method 'knots'"),
    ],
)
def test_what_mergekit_cannot_say_is_not_written(recipe: ParameterSpaceRecipe, said: str) -> None:
    with pytest.raises(InexpressibleError, match=said):
        mergekit_yaml(recipe, TENSORS)


def test_survivors_may_be_divided_by_a_density_of_1() -> None:
    recipe = recipe_of("dare_linear", rescale="density")
    values = {"weight": (0.5, 0.5, 0.5), "density": (1.0, 1.0, 1.0)}
    assert "weight: 0.5" in mergekit_yaml(replace(recipe, parameters=(ParameterRule(("*",), values),)), TENSORS)
