"""mergekit YAMLs as recipes: what filters, gradients and slices mean, and what is refused, with file and line."""

import textwrap
from typing import Any

import pytest

from evo_merge.errors import ModelError, RecipeError
from evo_merge.interchange.from_mergekit import from_mergekit
from evo_merge.interchange.mergekit_methods import METHODS
from evo_merge.interchange.mergekit_stacks import Shape
from evo_merge.methods.base import SHARES
from evo_merge.recipe import DataFlowRecipe, ModelReference, ParameterRule, ParameterSpaceRecipe, Recipe, Step, rule_of

PARTS = ("self_attn.q_proj.weight", "mlp.down_proj.weight")
TENSORS = ["model.embed_tokens.weight", *(f"model.layers.{i}.{part}" for i in range(4) for part in PARTS), "model.norm.weight"]


def read(text: str, **shapes: Shape) -> Recipe:
    def describe(reference: ModelReference) -> Shape:
        return shapes.get(reference.model, Shape(4, TENSORS, "bfloat16"))

    return from_mergekit(textwrap.dedent(text), "'merge.yml'", describe)


def mixture(text: str) -> ParameterSpaceRecipe:
    recipe = read(text)
    assert isinstance(recipe, ParameterSpaceRecipe)
    return recipe


def test_defaults_are_mergekits() -> None:
    recipe = mixture("""
        merge_method: dare_ties
        base_model: base
        models:
          - model: a@v1
            parameters: {weight: 0.5}
          - model: org/b
            parameters: {weight: 1e-1, density: 0.5}
        """)
    assert recipe.options == {"rescale": "norm", "normalize": False}
    assert recipe.parameters == (ParameterRule(("*",), {"weight": (0.5, 0.1), "density": (1.0, 0.5), "lambda": 1.0}),)
    assert [source.reference for source in recipe.sources] == [ModelReference("a", "v1"), ModelReference("org/b")]
    assert (recipe.base, recipe.dtype, recipe.out_dtype) == (ModelReference("base"), "bfloat16", "bfloat16")


def test_a_gradient_is_spread_over_the_layers_and_a_filter_chooses_by_a_part_of_the_name() -> None:
    recipe = mixture("""
        merge_method: slerp
        base_model: b
        models: [{model: a}, {model: b}]
        parameters:
          t:
            - {filter: mlp, value: [0, 0.3]}
            - value: 0.5
        """)
    found = {name: rule_of(recipe, name).values["t"] for name in TENSORS}
    gradient = {f"model.layers.{i}.mlp.down_proj.weight": i / 10 for i in range(4)}
    assert found == pytest.approx(dict.fromkeys(TENSORS, 0.5) | gradient)
    assert [source.name for source in recipe.sources] == ["b", "a"]  # the base is where t is 0


def test_a_source_may_be_a_stack_of_layers() -> None:
    recipe = mixture("""
        merge_method: linear
        dtype: float32
        slices:
          - sources:
              - {model: a, layer_range: [0, 2], parameters: {weight: 1}}
              - {model: b, layer_range: [0, 2], parameters: {weight: 2}}
          - sources:
              - {model: a, layer_range: [2, 4], parameters: {weight: 3}}
              - {model: c, layer_range: [1, 3], parameters: {weight: 4}}
        """)
    whole, stack = recipe.sources
    assert whole.reference == ModelReference("a")
    inner = stack.reference.recipe
    assert isinstance(inner, DataFlowRecipe)
    assert inner.path == (Step("b", 0), Step("b", 1), Step("c", 1), Step("c", 2))
    assert inner.head == "c"  # norm and head are the last slice's
    weights = {name: rule_of(recipe, name).values["weight"] for name in TENSORS}
    assert weights == {name: (3.0, 4.0) if ".2." in name or ".3." in name else (1.0, 2.0) for name in TENSORS} | {
        "model.norm.weight": (3.0, 4.0)
    }


def test_slices_passed_through_are_a_path() -> None:
    recipe = read("""
        merge_method: passthrough
        dtype: float16
        slices:
          - sources: [{model: a, layer_range: [0, 3]}]
          - sources: [{model: a, layer_range: [1, 4]}]
        """)
    assert isinstance(recipe, DataFlowRecipe)
    assert [step.layer for step in recipe.path] == [0, 1, 2, 1, 2, 3]
    assert (recipe.out_dtype, recipe.head) == ("float16", None)


def test_adapters_and_models_of_one_name_are_told_apart() -> None:
    recipe = mixture("""
        merge_method: linear
        models:
          - {model: x/a+lora, parameters: {weight: 1}}
          - {model: {model: {path: y/a, revision: v2}}, parameters: {weight: 1}}
          - {model: z/a, parameters: {weight: 1}}
        """)
    assert recipe.sources[0].reference == ModelReference(adapter="lora", base=ModelReference("x/a"))
    assert recipe.sources[1].reference == ModelReference("y/a", "v2")
    assert [source.name for source in recipe.sources] == ["lora", "a_1", "a_2"]


MODELS = "models: [{model: a, parameters: {weight: 1}}, {model: b, parameters: {weight: 1}}]"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"merge_method: linear\nwieght: 1\n{MODELS}", "'merge.yml', line 2: unknown key 'wieght'"),
        (f"merge_method: linaer\n{MODELS}", "line 1: there is no merge_method 'linaer'; did you mean 'linear'"),
        (
            "merge_method: linear\nmodels:\n- model: a\n  parametres: {}",
            "line 4: unknown key 'parametres'; did you mean 'parameters'",
        ),
        (
            "merge_method: linear\nmodels:\n- model: a\n  parameters:\n    wieght: 1",
            "line 5: unknown key 'wieght'; did you mean 'weight'",
        ),
        ("merge_method: linear\nmodels:\n- model: a", "line 3: 'weight' is missing, and 'linear' needs it"),
        ("merge_method: linear", "either 'models' or 'slices'"),
        (f"merge_method: ties\n{MODELS}", "line 1: 'ties' needs a base_model"),
        (
            f"merge_method: ties\nbase_model: c\n{MODELS}\nparameters:\n  density: 1.5",
            r"'density' is a share from 0 to 1, got 1\.5",
        ),
        (f"merge_method: ties\nbase_model: c\n{MODELS}\nparameters:\n  density: 0", "density 0 keeps nothing of 'a'"),
        (
            f"merge_method: della\nbase_model: c\n{MODELS}\nparameters:\n  density: 0.1",
            "must lie between 0 and 1, got 0.1 and 0.15",
        ),
        (
            "merge_method: linear\nmodels: [{model: a, parameters: {weight: 1}}, {model: b, parameters: {weight: -1}}]",
            "sum to 0",
        ),
        (f"merge_method: nuslerp\nbase_model: a\n{MODELS}", "'nuslerp' merges exactly 2 sources, got 1; base_model is not one"),
        (f"merge_method: slerp\nbase_model: c\n{MODELS}\nparameters: {{t: 0.5}}", "'slerp' merges exactly 2 sources, got 3"),
        (f"merge_method: nearswap\nbase_model: c\n{MODELS}\nparameters: {{t: 0.5}}", "merges exactly 1 source, got 2"),
        ("merge_method: model_stock\nbase_model: c\nmodels: [{model: a}]", "'model_stock' merges at least 2 sources, got 1"),
        (f"merge_method: linear\n{MODELS}\ndtype: int8", "line 3: dtype must be one of float32, bfloat16, float16, got 'int8'"),
        (
            f"merge_method: linear\n{MODELS}\ntokenizer_source: c",
            "line 3: 'c' is none of the models of the merge",
        ),
        (
            f"merge_method: linear\n{MODELS}\ntokenizer_source: base\ntokenizer: {{source: base}}",
            "line 4: a merge has either 'tokenizer' or 'tokenizer_source'",
        ),
        (
            f"merge_method: linear\n{MODELS}\ntokenizer:\n  pad_to_multiple_of: much",
            "line 4: 'pad_to_multiple_of' must be a whole number, got 'much'",
        ),
        (
            f"merge_method: linear\n{MODELS}\ntokenizer:\n  tokens:\n    <a>: {{force: true}}",
            "line 5: the token '<a>' needs a 'source'",
        ),
        (
            f"merge_method: linear\n{MODELS}\ntokenizer:\n  tokens:\n    <a>: {{source: {{kind: model_token, model: a}}}}",
            "line 5: 'kind' is zero, or model_token with a model and either 'token' or 'token_id'",
        ),
        (
            f"merge_method: linear\n{MODELS}\ntokenizer:\n  pad_to: 8",
            "line 4: unknown key 'pad_to'",
        ),
        (
            "merge_method: passthrough\nslices:\n- sources: [{model: a, layer_range: [0, 3]}]\ntokenizer_source: union",
            "line 4: layers that are only stacked keep the tokenizer of 'a'; leave tokenizer_source out",
        ),
        (
            f"merge_method: linear\n{MODELS}\nparameters:\n  normalize:\n  - {{filter: mlp, value: true}}",
            "line 4: 'normalize' must be one",
        ),
        (
            "merge_method: linear\nmodels:\n- model: a\n  parameters:\n    weight: [{filter: mpl, value: 1}, {value: 2}]",
            "line 5: the filter 'mpl' matches no tensor",
        ),
        ("merge_method: linear\nmodels:\n- {model: a, parameters: {weight: much}}", "line 3: 'much' is no number"),
        (
            "merge_method: passthrough\nslices:\n- sources: [{model: a, layer_range: [2, 9]}]",
            "'a' has 4 layers, and layer_range ends at 9",
        ),
        ("merge_method: passthrough\nslices:\n- sources: [{model: a, layer_range: [2, 2]}]", r"layer_range must be \[first"),
        (f"merge_method: linear\n{MODELS}\nmodules: {{}}", "'modules' is for models of several parts"),
        (
            "merge_method: linear\nmodels: [{model: a, parameters: {weight: 1}}, {model: a, parameters: {weight: 1}}]",
            "named twice",
        ),
        ("merge_method: [", r"'merge\.yml', line 1, column 16: no YAML: "),
    ],
)
def test_what_is_wrong_is_one_sentence_with_its_line(text: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said) as caught:
        read(text)
    assert "\n" not in str(caught.value)


NESTED = """\
merge_method: METHOD
base_model: c
models:
- model: a
  parameters: {weight: 1, density: 0.5}
- model: b
  parameters:
    weight: 1
    density: VALUE
"""


@pytest.mark.parametrize(
    ("method", "value", "said"),
    [
        ("ties", "1.5", "line 9: 'density' is a share from 0 to 1, got 1.5"),
        ("ties", "0", "line 9: density 0 keeps nothing of 'b'; leave the model out"),
        ("ties", ".nan", "line 9: 'nan' is no finite number"),
        ("ties", "1e999", "line 9: 'inf' is no finite number"),
        ("della", "0.1", "line 9: density - epsilon and density + epsilon must lie between 0 and 1, got 0.1 and 0.15"),
        ("ties", "\n    - 0.5\n    - 1.5", "line 11: 'density' is a share from 0 to 1, got 1.5"),
        ("breadcrumbs", "1\n    gamma: -1", "line 10: 'gamma' is a share from 0 to 1, got -1"),
        ("ties", "\n    - filter: mlp\n      value: 2\n    - value: 1", "line 11: 'density' is a share from 0 to 1, got 2"),
    ],
)
def test_a_wrong_number_is_told_by_the_line_it_stands_on(method: str, value: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read(NESTED.replace("METHOD", method).replace("VALUE", value))
    assert str(caught.value).startswith(f"'merge.yml', {said}")


def test_the_shares_are_those_of_the_methods() -> None:
    settings = [setting for method in METHODS.values() for setting in method.settings]
    assert all(setting.is_share == (setting.our_name in SHARES) for setting in settings)


def test_weights_that_sum_to_zero_are_told_by_the_line_of_the_first_one() -> None:
    models = "".join(f"- model: {name}\n  parameters:\n    weight: {weight}\n" for name, weight in (("a", 1), ("b", -1)))
    with pytest.raises(RecipeError, match=r"line 5: the weights sum to 0 for all tensors"):
        read(f"merge_method: linear\nmodels:\n{models}")


def test_a_count_is_a_whole_number() -> None:
    with pytest.raises(RecipeError, match=r"line 4: 'max_iter' must be a whole number, got 1\.5"):
        read("merge_method: karcher\nmodels: [{model: a}, {model: b}]\nparameters:\n  max_iter: 1.5")


def test_slices_need_the_base_and_as_many_sources_each() -> None:
    sliced: dict[str, Any] = {"a": "{model: a, layer_range: [0, 2]}", "b": "{model: b, layer_range: [2, 4]}"}
    first, second = f"- sources: [{sliced['a']}]", f"- sources: [{sliced['a']}, {sliced['b']}]"
    with pytest.raises(RecipeError, match="'sce' needs the base_model 'c' among the sources"):
        read(f"merge_method: sce\nbase_model: c\nslices:\n{first}")
    with pytest.raises(RecipeError, match="every slice must have as many sources, without the base; there are 1, 2"):
        read(f"merge_method: karcher\nslices:\n{first}\n{second}")


def test_models_of_different_depth_are_told_with_their_layers() -> None:
    with pytest.raises(RecipeError, match=r"line 2: .* different numbers of layers \('a' has 4, 'b' has 6\); name layers"):
        read(f"merge_method: linear\n{MODELS}\nparameters: {{weight: 1}}", b=Shape(6, TENSORS, "bfloat16"))


def test_a_model_that_cannot_be_read_is_told_by_its_line() -> None:
    def describe(reference: ModelReference) -> Shape:
        raise ModelError(f"'{reference}' has no config.json")

    with pytest.raises(RecipeError, match=r"'merge.yml', line 3: 'a' has no config.json"):
        from_mergekit("merge_method: linear\nmodels:\n- model: a\n  parameters: {weight: 1}", "'merge.yml'", describe)
