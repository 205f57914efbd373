"""A file that says what to build: a recipe of ours, or a mergekit YAML."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from evo_merge.errors import RecipeError
from evo_merge.interchange.document import Document
from evo_merge.interchange.evolve_genome import is_genome
from evo_merge.interchange.mergekit_config import parse
from evo_merge.interchange.mergekit_early import check_early
from evo_merge.recipe import ModelReference, Recipe, reference_record
from evo_merge.recipe_file import load

if TYPE_CHECKING:
    from evo_merge.interchange.mergekit_stacks import Shape

_MERGEKIT = re.compile(r"^(merge_method|slices)\s*:", re.MULTILINE)


def load_any(path: Path) -> Recipe:
    """Read a recipe, or translate a mergekit YAML, which is told by its ``merge_method``.

    Raises:
        RecipeError: What is wrong in it; in a mergekit YAML with its line, also where a model cannot be found.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot read the recipe '{path}': {getattr(error, 'strerror', None) or error}") from error
    if is_genome(text):
        raise RecipeError(
            f"'{path}' is a genome of mergekit-evolve, which is searched and not built: python -m evo_merge.from_evolve "
            f"genome={path} out=DIR"
        )
    if not _MERGEKIT.search(text):
        return load(path)
    config = parse(Document.read(text, f"'{path}'"), path.parent)
    check_early(config)
    from evo_merge.interchange.from_mergekit import recipe_of  # needs torch, for which a wrong value need not wait

    return recipe_of(config, described)


def described(reference: ModelReference) -> Shape:
    """What a mergekit YAML needs to know of a model, from its config and headers; raises ``ModelError``."""
    from evo_merge.interchange.mergekit_stacks import Shape
    from evo_merge.models.pool import Pool

    pool = Pool(base=None, sources=[{"name": "model", **reference_record(reference)}], headers_only=True)
    (model,) = pool.sources
    return Shape(model.config.get_text_config().num_hidden_layers, list(model.shapes), pool.out_dtype)
