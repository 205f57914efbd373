"""The model card of the exported checkpoint: ``README.md`` with metadata that the Hugging Face hub accepts."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from evo_merge.licence_table import Terms
from evo_merge.licences import ResultLicence, StatedLicence, combine, in_words
from evo_merge.recipe import DataFlowRecipe, ModelReference, ParameterSpaceRecipe, Recipe, Source, to_yaml
from evo_merge.recipe import references as references_of
from evo_merge.report.model_card_results import limits_told, results_told
from evo_merge.report.summary import tested
from evo_merge.report.wording import duration, listing, path_in_words
from evo_merge.tasks.base import Prompt


def model_card(
    summary: Mapping[str, Any],
    recipe: Recipe,
    *,
    name: str,
    licences: Mapping[str, Sequence[StatedLicence]],
    languages: Sequence[str] = (),
    prompt: Prompt | None = None,
) -> str:
    """The text of the card.

    Args:
        summary: The content of ``summary.json``; a run without test scores gives a card that says so.
        recipe: Of the exported checkpoint.
        name: What the model is called.
        licences: What each model whose weights are in the merge states, by name.
        prompt: What the task asks with, for one problem: a merge answers well only to what it was chosen by.
        languages: ISO 639 codes of the task's language, where it has one.
    """
    told = [_introduction(summary, recipe), "## Results", *results_told(summary)]
    metadata = _metadata(recipe, name, combine(licences)) | _measured(summary)
    if languages:
        metadata["language"] = list(languages)
    return _card(metadata, recipe, name, licences, told, limits_told(summary), _asking(prompt))


def recipe_card(recipe: Recipe, *, name: str, licences: Mapping[str, Sequence[StatedLicence]]) -> str:
    """The text of the card of a checkpoint that was built from its recipe alone: what it is, with no claim about its worth.

    Args:
        recipe: Of the checkpoint.
        name: What the model is called.
        licences: What each model whose weights are in the merge states, by name.
    """
    return _card(_metadata(recipe, name, combine(licences)), recipe, name, licences, [_what_it_is(recipe)], _UNMEASURED)


def adapter_card(
    recipe: ParameterSpaceRecipe, *, name: str, licences: Mapping[str, Sequence[StatedLicence]], base_here: Path | None = None
) -> str:
    """The text of the card of a merge that was written as a LoRA adapter, from its recipe alone.

    Args:
        recipe: Its sources are adapters of one base.
        name: What the adapter is called.
        licences: What each model whose weights are in the merge states, by name.
        base_here: Folder or GGUF file of a base that nobody else finds by its name.
    """
    base = recipe.sources[0].reference.base
    assert base is not None, "a source is an adapter"
    metadata = _metadata(recipe, name, combine(licences)) | {"library_name": "peft"}
    for_whom = (
        f"A LoRA adapter for `{base}`. `base` below is that model; `evo-merge` takes it as `{{adapter: DIR, base: {base}}}`."
    )
    use = (
        for_whom if base_here is None else f"{for_whom} {_ONLY_HERE}",
        _loading_adapter(base.model, base_here),
        "`python -m evo_merge.build recipe=recipe.yaml out=adapter as=adapter` writes the same adapter again.",
    )
    mixed = listing([f"`{_adapter_name(source)}`" for source in recipe.sources])
    told = f"The LoRA adapter{'s' if len(recipe.sources) > 1 else ''} {mixed}, merged by `{recipe.method}`. It was not trained."
    return _card(metadata, recipe, name, licences, [told], _UNMEASURED, use=use)


def _adapter_name(source: Source) -> str:
    """Its hub id, or the name that the recipe gives to a folder."""
    adapter = source.reference.adapter or ""
    return adapter if _is_hub_id(adapter) else source.name


def _loading_adapter(base: str, here: Path | None) -> str:
    is_gguf = here is not None and here.suffix == ".gguf"
    name = base if here is None else str(here.parent if is_gguf else here)
    file = f", gguf_file={here.name!r}" if here is not None and is_gguf else ""
    return _LOADING_ADAPTER.format(base=name, file=file)


def _card(
    metadata: Mapping[str, Any],
    recipe: Recipe,
    name: str,
    licences: Mapping[str, Sequence[StatedLicence]],
    told: Sequence[str],
    limits: str,
    asking: str = "",
    use: tuple[str, str, str] | None = None,
) -> str:
    what, loading, again = use or (
        "An ordinary `transformers` checkpoint; no code beside the library is needed.",
        _LOADING,
        "`python -m evo_merge.build recipe=recipe.yaml out=merged` builds the same weights again, bit for bit.",
    )
    body = "\n\n".join(
        [
            f"# {name}",
            *told,
            "## Use",
            what,
            _fenced(loading + asking, "python"),
            "## Recipe",
            again,
            _fenced(to_yaml(recipe), "yaml"),
            "## Limits",
            limits,
            "## Licence",
            _licence(licences, combine(licences)),
        ]
    )
    return str(ModelCard(f"---\n{ModelCardData(**metadata).to_yaml()}\n---\n\n{body}\n"))


def _asking(prompt: Prompt | None) -> str:
    """Code that asks the model as the task does; nothing where there is no prompt to show."""
    if prompt is None:
        return ""
    if isinstance(prompt, str):
        tokens = f'prompt = {prompt!r}  # as the task asks\ninputs = tokenizer(prompt, return_tensors="pt")'
    else:
        tokens = (
            f"messages = {prompt!r}  # as the task asks\n"
            "inputs = tokenizer.apply_chat_template(\n"
            '    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"\n)'
        )
    return (
        f"\n\n{tokens}\nanswer = model.generate(**inputs, max_new_tokens=256, do_sample=False)\n"
        'print(tokenizer.decode(answer[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))'
    )


def hub_ids(recipe: Recipe) -> list[str]:
    """The hub ids among the models of the recipe and of recipes inside it, in order; folders and packages are none."""
    references = [root for reference in references_of(recipe) for root in _roots(reference)]
    return list(dict.fromkeys(reference.model for reference in references if _is_hub_id(reference.model)))


_LOADING = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

path = "."  # this folder, or the hub id it was uploaded under
tokenizer = AutoTokenizer.from_pretrained(path)
model = AutoModelForCausalLM.from_pretrained(path)
"""

_LOADING_ADAPTER = """\
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base = {base!r}
tokenizer = AutoTokenizer.from_pretrained(base{file})
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base{file}), ".")  # this folder
"""
_ONLY_HERE = (
    "Its path is that on the machine where the adapter was made. Before you share the adapter, put the base's public name in "
    "its place, here and in `adapter_config.json`; the recipe names folders of that machine too."
)
_UNMEASURED = (
    "Built from its recipe alone: nothing was measured here. It carries the limits and biases of its sources, and nothing "
    "was done to align or to filter it."
)


def _metadata(recipe: Recipe, name: str, licence: ResultLicence) -> dict[str, Any]:
    bases = hub_ids(recipe)
    fields: dict[str, Any] = {
        "model_name": name,
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["merge", "evo-merge"],
        "license": licence.license,
    }
    if licence.license_name is not None:
        fields["license_name"] = licence.license_name
    if bases:
        fields |= {"base_model": bases, "base_model_relation": "merge"}
    return fields


def _measured(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The test scores as metadata; nothing where there are none."""
    if "best" not in summary.get("test", {}):
        return {}
    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type=summary["task"],
            dataset_name=summary["task"],
            dataset_split="test",
            metric_type=objective,
            metric_value=round(tested(summary, objective)["best"]["score"], 4),
        )
        for objective in summary["objectives"]
    ]
    return {"eval_results": results}


def _roots(reference: ModelReference) -> Iterator[ModelReference]:
    """The model itself, what it is a merge of, or what an adapter is put on and the adapter, which may be on the hub too."""
    if reference.recipe is not None:
        for inner in references_of(reference.recipe):
            yield from _roots(inner)
        return
    if reference.base is None:
        yield reference
        return
    yield from _roots(reference.base)
    if reference.adapter is not None:
        yield ModelReference(reference.adapter)


def _is_hub_id(model: str) -> bool:
    return bool(re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", model, re.ASCII)) and not Path(model).exists()


def _what_it_is(recipe: Recipe) -> str:
    if isinstance(recipe, DataFlowRecipe):
        return _path_introduction(recipe)
    return f"A merge of {_mixed(recipe)}. Its weights were not trained."


def _introduction(summary: Mapping[str, Any], recipe: Recipe) -> str:
    found = "The path was" if isinstance(recipe, DataFlowRecipe) else "The numbers of the merge were"
    return (
        f"{_what_it_is(recipe)}\n\n{found} found by evo-merge with `{summary['optimizer']}`, "
        f"{summary['evaluations']} candidates in {duration(summary['seconds'])}, scored on the search problems of "
        f"`{summary['task']}`."
    )


def _path_introduction(recipe: DataFlowRecipe) -> str:
    first, *others = recipe.models
    whose = (
        f"layers of {listing([f'`{source.name}`' for source in recipe.models])}" if others else f"the layers of `{first.name}`"
    )
    n_layers = len(recipe.path)
    has_scales = any(step.scale != 1 for step in recipe.path)
    folded = "The scales are folded into the weights, so it" if has_scales else "It"
    named = "\n".join(f"- `{source.name}`: {_origin(source.reference)}" for source in recipe.models)
    return (
        f"A path through {whose}. Tokens pass through {n_layers} layers in this order: {path_in_words(recipe)}. "
        f"Tokenizer, embeddings, final norm and head are those of `{first.name}`. No weight was trained. {folded} is an "
        f"ordinary checkpoint with {n_layers} layers.\n\n{named}"
    )


def _origin(reference: ModelReference) -> str:
    """What a model is: its name, or, where a recipe builds it, what that does."""
    if isinstance(reference.recipe, DataFlowRecipe):
        inner = reference.recipe
        each = listing([f"`{source.name}`, which is {_origin(source.reference)}" for source in inner.models])
        return f"a path through {each}: {path_in_words(inner)}"
    return f"`{reference}`" if reference.recipe is None else f"a merge of {_mixed(reference.recipe)}"


def _mixed(recipe: ParameterSpaceRecipe) -> str:
    base = "" if recipe.base is None else f" on the base {_origin(recipe.base)}"
    return f"{listing([_origin(source.reference) for source in recipe.sources])}{base} by `{recipe.method}`"


def _licence(licences: Mapping[str, Sequence[StatedLicence]], licence: ResultLicence) -> str:
    shows_all = not licences or licence.terms is Terms.PERMISSIVE
    stated = "" if shows_all else f" The models state: {in_words(licences)}."
    return (
        f"**{licence.terms.value[0].upper()}{licence.terms.value[1:]}.** {licence.sentence}{stated} This is what the models' "
        "cards state, combined; it is no legal advice."
    )


def _fenced(text: str, language: str) -> str:
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
