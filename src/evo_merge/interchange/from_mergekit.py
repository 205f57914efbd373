"""A mergekit YAML (https://github.com/arcee-ai/mergekit) as a recipe, with mergekit's defaults: the numbers are its own.

Every source of the merge is a stack of layers: the n-th models of all slices, or where that is one whole model, that model.
Stacks are data-flow recipes of their own. What filters and gradients make of the settings is worked out for every tensor, and
written as rules.
"""

from collections.abc import Callable
from pathlib import Path

from evo_merge.errors import ModelError
from evo_merge.interchange.document import Document
from evo_merge.interchange.mergekit_config import MergekitConfig, parse
from evo_merge.interchange.mergekit_early import named_models
from evo_merge.interchange.mergekit_stacks import (
    Shape,
    columns_of,
    filled,
    layer_stems,
    reference_of,
    source_names,
    tensors_of,
)
from evo_merge.interchange.mergekit_tokenizer import rule_of_mergekit
from evo_merge.interchange.mergekit_values import (
    check_filters,
    check_sums,
    check_values,
    filter_texts,
    method_of,
    numbers_of,
    values_of,
)
from evo_merge.interchange.rules import shortened
from evo_merge.methods.base import options_of
from evo_merge.recipe import ModelReference, ParameterSpaceRecipe, Recipe, Source
from evo_merge.tokenizer_rule import BASE


def from_mergekit(
    text: str, origin: str, describe: Callable[[ModelReference], Shape], folder: Path | None = None, seed: int = 0
) -> Recipe:
    """The recipe of a mergekit YAML.

    Args:
        text: The file.
        origin: What messages call it.
        describe: Says what a model looks like.
        folder: Where relative folders are looked for that do not exist in the working directory.
        seed: Of the method's chance.

    Raises:
        RecipeError: With file and line, what is wrong in it or with a model that it names, or what we do not build.
    """
    return recipe_of(parse(Document.read(text, origin), folder), describe, seed)


def recipe_of(config: MergekitConfig, describe: Callable[[ModelReference], Shape], seed: int = 0) -> Recipe:
    """The recipe of a file that was read; see ``from_mergekit``."""
    shapes = _described(config, describe)
    slices = [filled(config, part, shapes) for part in config.slices]
    columns, base = columns_of(config, slices)
    leader = slices[0].sources[0].model if config.base is None else config.base
    dtype = config.dtype or shapes[leader].dtype
    out_dtype = config.out_dtype or dtype
    method = method_of(config, slices, columns, base)
    tensors = tensors_of(columns, slices, shapes)
    check_filters(config, tensors)
    found = {tensor.name: values_of(config, method, columns, tensor) for tensor in tensors}
    check_values(config, columns, found)
    check_sums(config, method, found)
    values = {name: numbers_of(each) for name, each in found.items()}
    names = source_names([column[0].model for column in columns])
    is_plain = config.method == "passthrough" and dtype == out_dtype and all(each["scale"] == 1.0 for each in values.values())
    if is_plain and (stack := reference_of(columns[0], shapes, out_dtype)).recipe is not None:
        _refuse_other_tokens(config, leader, columns[0][0].model)
        return stack.recipe
    sources = tuple(Source(name, reference_of(column, shapes, dtype)) for name, column in zip(names, columns, strict=True))
    base_reference = reference_of(base, shapes, dtype) if base is not None else config.base
    # A base that only lends its config is left out where that is the first source's; but it gives rows before others.
    if base is None and base_reference == sources[0].reference and config.tokenizer is None:
        base_reference = None
    return ParameterSpaceRecipe(
        base=base_reference,
        sources=sources,
        method=config.method,
        options=options_of(method),
        parameters=shortened(values, filter_texts(config), layer_stems(tensors)),
        seed=seed,
        dtype=dtype,
        out_dtype=out_dtype,
        tokenizer=None
        if config.tokenizer is None
        else rule_of_mergekit(config.document, config.tokenizer, base_reference, sources),
    )


def _described(config: MergekitConfig, describe: Callable[[ModelReference], Shape]) -> dict[ModelReference, Shape]:
    """What every model looks like; an error about one has the line on which the file names it."""
    shapes = {}
    for model, place in named_models(config).items():
        try:
            shapes[model] = describe(model)
        except ModelError as error:
            raise config.document.error(place, str(error)) from error
    return shapes


def _refuse_other_tokens(config: MergekitConfig, leader: ModelReference, first: ModelReference) -> None:
    """Layers that are only stacked keep the tokenizer and the rows of the first model, which is what most files ask for."""
    tokenizer = config.tokenizer
    if tokenizer is not None and not (tokenizer.is_plain and leader == first and tokenizer.source in (BASE, leader)):
        raise config.document.error(
            tokenizer.place, f"layers that are only stacked keep the tokenizer of '{first}'; leave {tokenizer.place[0]} out"
        )
