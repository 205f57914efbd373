"""``python -m evo_merge``: compose, check, plan or search. Everything slow is imported after the command line was read."""

import shutil
import sys
from dataclasses import asdict
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from evo_merge.command_line import guarded, run_hydra
from evo_merge.errors import ConfigError

PARTS = ("merge", "optimizer", "models", "task", "generator", "scalarize", "trainer", "tracker")
_CHECKED_LAST = ("generator", "trainer", "tracker")  # transformers, Lightning and W&B take seconds to be imported
_MAY_CHANGE = ("budget.", "merge.budget.", "export", "tracker", "trainer")  # with resume=


def main() -> int:
    """The ``evo-merge`` command; returns the exit code."""
    if code := guarded(lambda: _prepare(sys.argv)):
        return code
    return run_hydra("config", _job)


def _prepare(argv: list[str]) -> None:
    """Before Hydra writes anything: let a resumed run go on in its own folder, and refuse to write over another run."""
    options = dict(word.split("=", 1) for word in argv[1:] if "=" in word and not word.startswith("-"))
    if "resume" in options and options["resume"] not in ("null", ""):
        folder = Path(options["resume"].strip("'\"")).expanduser()
        if "-m" in argv or "--multirun" in argv:
            raise ConfigError("resume continues one run; leave out --multirun")
        if "experiment" in options:  # one may be a sweep, each of whose runs would be refused
            raise ConfigError("resume takes 'experiment' from the run; leave it out")
        if not (folder / "study.sqlite").is_file():
            raise ConfigError(
                f"resume: '{folder}' holds no run (it has no study.sqlite); name a run folder such as outputs/<day>/<time>"
            )
        # What is composed here is the default merge, which has no such options; what counts is the run's own config.
        argv[1:] = [f"+{word}" if word.startswith("merge.budget.") else word for word in argv[1:]]
        argv += [f"hydra.run.dir='{folder}'", "hydra.output_subdir=null"]
        return
    for key, pattern in (("hydra.run.dir", "study.sqlite"), ("hydra.sweep.dir", "*/study.sqlite")):
        folder = Path(options.get(key, "").strip("'\""))
        if key in options and "${" not in options[key] and any(folder.glob(pattern)):
            raise ConfigError(f"'{folder}' already holds a run; continue it with resume=<run folder>, or choose another folder")


def _job(config: DictConfig) -> None:
    from hydra.core.hydra_config import HydraConfig

    folder = Path(HydraConfig.get().runtime.output_dir)
    if folder.is_relative_to(Path.cwd()):
        folder = folder.relative_to(Path.cwd())  # as the user would type it
    try:
        _run(config, folder)
    finally:
        _remove_if_nothing_ran(folder)


def _run(config: DictConfig, folder: Path) -> None:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from evo_merge.config import check, run_settings

    context = HydraConfig.get()
    if config.resume is not None:
        config = _resumed(config, list(context.overrides.task))
    # Before the parts, whose libraries take seconds to be imported.
    settings = run_settings(config)
    from evo_merge.search import Budget

    Budget(**asdict(settings.budget))
    check(config, PARTS, last=_CHECKED_LAST)
    from evo_merge import run

    if settings.plan:
        run.plan(config, settings, folder)
    elif config.resume is not None:
        run.resume(config, settings, folder)
    else:
        if context.mode is RunMode.MULTIRUN and "group" in config.tracker and config.tracker.group is None:
            config.tracker.group = Path(context.sweep.dir).name  # so that the runs of a sweep are compared
        choices = context.runtime.choices
        names = {part: str(choices[part]) for part in ("merge", "optimizer", "task")}
        # A hybrid's stages may have optimizers of their own.
        others = [str(name) for part, name in choices.items() if part.startswith("optimizer@")]
        names["optimizer"] = " and ".join(dict.fromkeys([names["optimizer"], *others]))
        run.start(config, settings, names, folder)


def _remove_if_nothing_ran(folder: Path) -> None:
    """A plan or a wrong option leaves no folder behind that looks like a run; one with anything else in it stays."""
    if {path.name for path in folder.iterdir()} <= {".hydra", "evo_merge.log", "study.sqlite.lock"}:
        shutil.rmtree(folder)


def _resumed(config: DictConfig, overrides: list[str]) -> DictConfig:
    """The stored config of a run, with what the command line may change."""
    from evo_merge.study import Study

    keys = [override.lstrip("+~").split("=")[0] for override in overrides]
    if fixed := [key for key in keys if key not in ("resume", "plan") and not key.startswith(_MAY_CHANGE)]:
        raise ConfigError(
            f"resume takes '{fixed[0]}' from the run; only budget.*, a hybrid's merge.budget.*, export, tracker and "
            "trainer may be changed"
        )
    study = Study.read(Path(config.resume).expanduser())
    stored = OmegaConf.create(study.get("config") or "")
    study.close()
    if not isinstance(stored, DictConfig) or not stored:
        raise ConfigError(f"resume: '{config.resume}' ended before it began; start it again")
    OmegaConf.set_struct(stored, False)  # noqa: FBT003  OmegaConf's own signature
    # A whole part first, then the single keys in it.
    for key in sorted(keys, key=lambda key: "." in key):
        OmegaConf.update(stored, key, OmegaConf.select(config, key), merge=False)
    return stored


if __name__ == "__main__":
    sys.exit(main())
