"""With which tokens the models of a pool are asked, and whose tokens their mixtures have."""

from collections.abc import Callable, Sequence
from copy import copy, deepcopy
from dataclasses import replace
from typing import Any

from evo_merge.errors import ConfigError, ModelError, RecipeError
from evo_merge.models.aligned import AlignedModel, Alignment
from evo_merge.models.model import Model
from evo_merge.models.untied import tied_alike
from evo_merge.recipe import Source
from evo_merge.tokenizer_rule import BASE, TokenizerRule


def aligned_models(
    rule: TokenizerRule, base: Model | None, sources: Sequence[Model], open_model: Callable[[Source], Model]
) -> tuple[Alignment, AlignedModel | None, tuple[AlignedModel, ...]]:
    """The base and the sources of a pool with the rows of one vocabulary, each with a head of its own where one has.

    Args:
        rule: Whose tokens they have; where it names no models, those of the pool count.
        base: As stored.
        sources: As stored.
        open_model: Opens a model that the rule names and the pool has not.

    Raises:
        ConfigError: The rule names a model that is none of these.
        ModelError: A model cannot be opened.
    """
    ours = [*([] if base is None else [base]), *sources]
    has_base = rule.base is not None if rule.sources else base is not None
    first = rule.base or (None if base is None else base.reference)
    members = rule.sources or [Source(model.name, model.reference) for model in sources]
    named = [*([Source(BASE, first)] if has_base and first is not None else []), *members]
    by_reference = {model.reference: model for model in ours}
    opened = [by_reference.get(each.reference) or open_model(each) for each in named]
    once = list(dict.fromkeys((*opened, *ours)))  # one reference may have two names
    alike = dict(zip(once, tied_alike(once), strict=True))
    try:
        alignment = Alignment(rule, tuple(each.name for each in named), tuple(alike[model] for model in opened), has_base)
    except RecipeError as error:
        raise ConfigError(f"models.{error}") from error
    aligned = tuple(AlignedModel(alike[source], alignment) for source in sources)
    return alignment, None if base is None else AlignedModel(alike[base], alignment), aligned


def stated_rule(alignment: Alignment | None) -> TokenizerRule | None:
    """Whose tokens aligned models have, with the models whose tokens and rows count, as recipes say it."""
    if alignment is None:
        return None
    named = [Source(name, model.reference) for name, model in zip(alignment.names, alignment.models, strict=True)]
    base = named.pop(0).reference if alignment.has_base else None
    return replace(alignment.rule, base=base, sources=tuple(named))


def refuse_other_rule(theirs: TokenizerRule | None, ours: TokenizerRule | None) -> None:
    """Refuse a recipe that has its rows from another rule than a pool's models; raises ``RecipeError``."""
    rules = [None if rule is None else replace(rule, base=None, sources=()) for rule in (theirs, ours)]
    if rules[0] != rules[1]:
        said, had = (None if rule is None else rule.source for rule in rules)
        raise RecipeError(
            f"the recipe's tokenizer is {said}, and the models have the rows of {had}; set models.tokenizer to what the "
            "recipe says, or build the recipe by itself"
        )


def first_tokenizer(models: Sequence[Model]) -> Any:
    """The first tokenizer that there is, with the first chat template that there is; raises ``ModelError`` without one."""
    found = [model.tokenizer for model in models if model.tokenizer is not None]
    if not found:
        raise ModelError("none of the models has a tokenizer, so nothing can be asked of them; add one to the base's folder")
    tokenizer = copy(found[0])
    tokenizer.chat_template = next((t.chat_template for t in found if t.chat_template is not None), None)
    return tokenizer


def first_generation_config(models: Sequence[Model]) -> Any:
    """The first generation config that there is, or transformers' own for the first model's architecture.

    Any model's end-of-sequence token ends an answer, so that a source that ends in its own way is not cut by length.
    """
    from transformers import GenerationConfig

    configs = [model.generation_config for model in models if model.generation_config is not None]
    config = deepcopy(configs[0]) if configs else GenerationConfig.from_model_config(models[0].config)
    ends = [_end_tokens(each) for each in (config, *configs, *(model.config for model in models))]
    union = list(dict.fromkeys(token for tokens in ends for token in tokens))
    config.eos_token_id = union[0] if len(union) == 1 else union or None
    return config


def _end_tokens(config: Any) -> list[int]:
    ids = getattr(config, "eos_token_id", None)
    return [] if ids is None else [ids] if isinstance(ids, int) else list(ids)
