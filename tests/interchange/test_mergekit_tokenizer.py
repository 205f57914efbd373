"""``tokenizer_source`` and ``tokenizer`` of mergekit: what they mean in a recipe, and how it is written."""

from dataclasses import replace
from typing import Any

import pytest
import yaml

from evo_merge.interchange.from_mergekit import from_mergekit
from evo_merge.interchange.mergekit_stacks import Shape
from evo_merge.interchange.to_mergekit import InexpressibleError, mergekit_yaml
from evo_merge.recipe import DataFlowRecipe, ModelReference, ParameterSpaceRecipe, Source
from evo_merge.tokenizer_rule import TokenizerRule, TokenRow

TENSORS = ["model.embed_tokens.weight", "model.layers.0.mlp.down_proj.weight", "lm_head.weight"]
MODELS = "models: [{model: org/a, parameters: {weight: 0.5}}, {model: org/b, parameters: {weight: 1}}]"
TA = f"merge_method: task_arithmetic\nbase_model: org/base\n{MODELS}"
LINEAR = f"merge_method: linear\n{MODELS}"


def read(text: str) -> Any:
    return from_mergekit(text, "file", lambda _: Shape(1, TENSORS, "float32"))


def written(recipe: ParameterSpaceRecipe) -> Any:
    try:
        text = mergekit_yaml(recipe, TENSORS)
    except InexpressibleError:
        return None
    return yaml.safe_load(text)


@pytest.mark.parametrize(
    ("asked", "rule"),
    [
        # Without padding mergekit has a row a token and no others.
        ("tokenizer_source: base", TokenizerRule("base", 1)),
        ("tokenizer_source: union", TokenizerRule("union", 1)),
        ("tokenizer_source: org/b", TokenizerRule("b", 1)),
        ("tokenizer_source: org/base", TokenizerRule("base", 1)),
        ("tokenizer: {pad_to_multiple_of: 64}", TokenizerRule("union", 64)),
        ("tokenizer: {source: org/a, pad_to_multiple_of: 0}", TokenizerRule("a", 1)),
        (
            "tokenizer: {source: base, tokens: {<a>: {source: org/a, force: true}, <0>: {source: {kind: zero}}}}",
            TokenizerRule("base", 1, (TokenRow("<a>", "a", None, force=True), TokenRow("<0>", None))),
        ),
        (
            "tokenizer: {source: base, tokens: {<a>: {source: {kind: model_token, model: org/base, token_id: 0}}, "
            "<b>: {source: {kind: model_token, model: org/b, token: <c>}}}}",
            TokenizerRule("base", 1, (TokenRow("<a>", "base", 0), TokenRow("<b>", "b", "<c>"))),
        ),
    ],
)
def test_a_tokenizer_is_read_and_written(asked: str, rule: TokenizerRule) -> None:
    recipe = read(f"{TA}\n{asked}")
    assert recipe.tokenizer == rule
    assert read(yaml.safe_dump(written(recipe))) == recipe
    assert "tokenizer" not in "".join(written(replace(recipe, tokenizer=None)))


def test_a_base_that_lends_its_config_also_gives_rows() -> None:
    recipe = read(f"{LINEAR}\nbase_model: org/a\ntokenizer_source: base")
    assert (recipe.base, recipe.tokenizer) == (ModelReference("org/a"), TokenizerRule("base", 1))
    assert read(f"{LINEAR}\nbase_model: org/a").base is None


def test_a_mean_of_three_is_not_written_as_the_first_ones_row() -> None:
    two = read(f"{LINEAR}\ntokenizer_source: union")
    assert written(two)["tokenizer_source"] == "union"
    more = Source("c", ModelReference("org/c"))
    rule = replace(two.parameters[0], values={"weight": (0.5, 1.0, 1.0)})
    assert written(replace(two, sources=(*two.sources, more), parameters=(rule,))) is None
    assert written(replace(two, sources=(*two.sources, more), parameters=(rule,), tokenizer=None)) is not None


def test_padding_that_is_kept_is_remarked_and_rows_of_other_models_are_not_written() -> None:
    recipe = read(f"{TA}\ntokenizer_source: base")
    text = mergekit_yaml(replace(recipe, tokenizer=TokenizerRule("base")), TENSORS)
    assert text is not None
    assert text.startswith("# mergekit has no rows but those of tokens;")
    assert written(replace(recipe, tokenizer=TokenizerRule("base", sources=recipe.sources))) is None


def test_layers_that_are_stacked_keep_the_first_models_tokens() -> None:
    stack = "merge_method: passthrough\nslices:\n" + "- sources: [{model: org/a, layer_range: [0, 1]}]\n" * 2
    for asked in ("tokenizer_source: base", "tokenizer_source: org/a"):
        assert isinstance(read(f"{stack}\n{asked}"), DataFlowRecipe)
