"""What a report calls the optimizer of a run."""

import yaml

from evo_merge.study import Study


def optimizer_name(study: Study) -> str:
    """``cmaes``; of an optimizer that is one of many of a library, also which: ``nevergrad (NGOpt)``."""
    chosen = study.get("optimizer") or "an unnamed optimizer"
    config = yaml.safe_load(study.get("config") or "") or {}
    named = (config.get("optimizer") or {}).get("name")
    # A hybrid's stages may have others, which its config does not tell apart here.
    return chosen if named is None or " and " in chosen else f"{chosen} ({named})"
