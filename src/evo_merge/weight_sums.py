"""Weights of a recipe that sum to 0: what cannot be merged so, and what a person should look at twice. No model is needed."""

from collections.abc import Iterator
from typing import Final, cast

from evo_merge.errors import RecipeError
from evo_merge.recipe import ParameterRule, ParameterSpaceRecipe, Recipe, references

_AVERAGES: Final = ("linear", "multislerp", "karcher", "fisher", "regmean")  # methods that are nothing without a sum of weights
_ELECT: Final = ("ties", "breadcrumbs_ties", "dare_ties", "della")  # methods that elect signs by weight
# Whether methods normalise where a recipe does not say.
_BY_DEFAULT: Final = (*_AVERAGES, "ties", "della")
_NO_SUM: Final = 1e-8


def refuse_no_sum(recipe: ParameterSpaceRecipe) -> None:
    """Refuse weights that sum to 0 where the method divides by their sum; raises ``RecipeError``."""
    for rule in _without_sum(recipe):
        if recipe.method in _AVERAGES:
            raise RecipeError(
                f"the weights sum to 0 for {_tensors(rule)}, and '{recipe.method}' divides by their sum; change one"
            )


def cancelling_weights(recipe: Recipe) -> list[str]:
    """Warnings about weights that are to be normalised and sum to 0, in a recipe and in those of its models.

    Such a merge can be built, and may be meant; as often a sign is wrong.
    """
    warnings = []
    if isinstance(recipe, ParameterSpaceRecipe):
        how = "the sum of the task vectors is left as it is"
        if recipe.method in _ELECT:
            how = f"'{recipe.method}' elects signs by weight, and divides each entry by the weights that agree"
        elif recipe.method in _AVERAGES:
            how = f"'{recipe.method}' divides by their sum"
        warnings += [
            f"the weights sum to 0 for {_tensors(rule)}, with normalize: {how}; check their signs"
            for rule in _without_sum(recipe)
            if any(cast(tuple[float, ...], rule.values["weight"]))  # where a box has its centre at 0 a search begins there
        ]
    for reference in references(recipe):
        if reference.recipe is not None:
            warnings += cancelling_weights(reference.recipe)
    return list(dict.fromkeys(warnings))


def _without_sum(recipe: ParameterSpaceRecipe) -> Iterator[ParameterRule]:
    """The rules whose weights the method is to normalise and cannot, because they sum to 0."""
    if not recipe.options.get("normalize", recipe.method in _BY_DEFAULT):
        return
    for rule in recipe.parameters:
        weight = rule.values.get("weight")
        if isinstance(weight, tuple) and len(weight) > 0 and abs(sum(weight)) < _NO_SUM:
            yield rule


def _tensors(rule: ParameterRule) -> str:
    return "all tensors" if rule.tensors == ("*",) else ", ".join(rule.tensors)
