"""``python -m evo_merge.build recipe=FILE out=DIR``: make the checkpoint of a recipe, the same bytes every time.

The file is a recipe, or a mergekit YAML. With ``as=adapter`` a merge of LoRA adapters is written as one.
"""

import logging
import sys
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from evo_merge.command_line import run_hydra
from evo_merge.errors import ConfigError

log = logging.getLogger(__name__)
KINDS = ("checkpoint", "adapter")


def main() -> int:
    """Run the command; returns the exit code."""
    return run_hydra("build", _job)


def _job(config: DictConfig) -> None:
    for key, meaning in (("recipe", "the recipe's file"), ("out", "the folder to write")):
        if OmegaConf.is_missing(config, key):
            raise ConfigError(f"{key} is not set; it is {meaning}: python -m evo_merge.build recipe=FILE out=DIR")
    if config["as"] not in KINDS:
        raise ConfigError(f"as must be one of {', '.join(KINDS)}, got '{config['as']}'")
    if not isinstance(config.rank, int | None):
        raise ConfigError(f"rank must be a whole number, or null for the sum of the adapters' ranks, got '{config.rank}'")
    if config.rank is not None and config["as"] != "adapter":
        raise ConfigError("rank is for adapters; add as=adapter, or leave it out")
    from evo_merge.interchange.read import load_any
    from evo_merge.recipe import ParameterSpaceRecipe
    from evo_merge.weight_sums import cancelling_weights, refuse_no_sum

    path, out = Path(str(config.recipe)).expanduser(), Path(str(config.out)).expanduser()
    loaded = load_any(path)  # before the imports that take seconds
    if isinstance(loaded, ParameterSpaceRecipe):
        refuse_no_sum(loaded)
    for warning in cancelling_weights(loaded):
        log.warning("%s", warning)
    from evo_merge.models.partial import place_for

    place_for(out)
    from evo_merge.models.adapter_export import write_adapter
    from evo_merge.models.checkpoint import write_checkpoint
    from evo_merge.models.merging import dropped_sources, refuse_idle_rules
    from evo_merge.models.pool import Pool
    from evo_merge.models.reference import path_here, pinned_recipe
    from evo_merge.report.model_card import adapter_card, recipe_card
    from evo_merge.report.write import replace_text
    from evo_merge.trackers.writing import Writing

    recipe = pinned_recipe(loaded)
    pool = Pool.of_recipe(recipe)
    if isinstance(recipe, ParameterSpaceRecipe):
        refuse_idle_rules(recipe, pool.leader.shapes)
        for warning in dropped_sources(recipe):
            log.warning("%s", warning)
    allowed, licences = tuple(config.allow_code), {model.name: model.licences for model in pool.models_in(recipe)}
    if config["as"] == "adapter":
        write_adapter(recipe, pool, out, rank=config.rank, allowed_code=allowed)
        assert isinstance(recipe, ParameterSpaceRecipe), "others are no adapters"
        base = recipe.sources[0].reference.base
        assert base is not None, "a source is an adapter"
        card = adapter_card(recipe, name=out.resolve().name, licences=licences, base_here=path_here(base))
    else:
        with Writing() as writing:
            write_checkpoint(recipe, pool, out, allowed_code=allowed, told=writing)
        card = recipe_card(recipe, name=out.resolve().name, licences=licences)
    replace_text(out / "README.md", card)
    log.info("wrote %s", out)


if __name__ == "__main__":
    sys.exit(main())
