"""``python -m evo_merge.build recipe=FILE out=DIR``: make the checkpoint of a recipe, the same bytes every time.

The file is a recipe, or a mergekit YAML.
"""

import logging
import sys
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from evo_merge.command_line import run_hydra
from evo_merge.errors import ConfigError

log = logging.getLogger(__name__)


def main() -> int:
    """Run the command; returns the exit code."""
    return run_hydra("build", _job)


def _job(config: DictConfig) -> None:
    for key, meaning in (("recipe", "the recipe's file"), ("out", "the folder to write")):
        if OmegaConf.is_missing(config, key):
            raise ConfigError(f"{key} is not set; it is {meaning}: python -m evo_merge.build recipe=FILE out=DIR")
    from evo_merge.interchange.read import load_any
    from evo_merge.models.checkpoint import write_checkpoint
    from evo_merge.models.merging import dropped_sources, refuse_idle_rules
    from evo_merge.models.pool import Pool
    from evo_merge.recipe import ParameterSpaceRecipe
    from evo_merge.report.model_card import recipe_card
    from evo_merge.report.write import replace_text

    recipe, out = load_any(Path(str(config.recipe)).expanduser()), Path(str(config.out)).expanduser()
    pool = Pool.of_recipe(recipe)
    if isinstance(recipe, ParameterSpaceRecipe):
        refuse_idle_rules(recipe, pool.leader.shapes)
        for warning in dropped_sources(recipe):
            log.warning("%s", warning)
    write_checkpoint(recipe, pool, out, allowed_code=tuple(config.allow_code))
    licences = {model.name: model.licences for model in pool.models_in(recipe)}
    replace_text(out / "README.md", recipe_card(recipe, name=out.resolve().name, licences=licences))
    log.info("wrote %s", out)


if __name__ == "__main__":
    sys.exit(main())
