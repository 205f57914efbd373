"""What the weights of a recipe's model are made from, told from other such things without reading them."""

from collections.abc import Iterable

from evo_merge.calibration.record import digest_of_record, folder_of, kind_of
from evo_merge.methods.base import method_from_recipe
from evo_merge.models.aligned import AlignedModel
from evo_merge.models.model import Model
from evo_merge.recipe import ParameterSpaceRecipe, Recipe


def weights_told(recipe: Recipe, models: Iterable[Model], allowed_code: tuple[str, ...] = ()) -> list[str]:
    """Words that are the same where, for one recipe, every byte of the weights would be.

    Args:
        recipe: What is built.
        models: All whose weights or rows it takes. One that is itself a recipe has all this in its fingerprint.
        allowed_code: Dotted names of methods from elsewhere that may run.

    Raises:
        EvoMergeError: The recipe's method, its statistics or a tokenizer cannot be read.
    """
    models = list(models)
    told = [model.fingerprint for model in models]
    aligned = [model for model in models if isinstance(model, AlignedModel)]
    told += [model.rows_digest for model in aligned]
    told += list(dict.fromkeys(model.alignment.vocabulary.digest for model in aligned))
    if isinstance(recipe, ParameterSpaceRecipe):
        method = method_from_recipe(recipe.method, recipe.options, allowed_code)
        if kind_of(method) is not None:
            told.append(digest_of_record(folder_of(method)))
    return told
