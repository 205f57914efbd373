"""Weights & Biases, through Lightning's logger: one run a search, compared by config, genes and fitness.

The parts of a resumed search share one run id. A row is one candidate, or one generation after its last candidate; its
step is computed from their numbers, so that the parts, each recorded offline in a folder of its own, fit together.
"""

import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import wandb
from pytorch_lightning.loggers import WandbLogger
from wandb.errors import AuthenticationError, UsageError
from wandb.sdk.lib import wbauth

from evo_merge.errors import ConfigError
from evo_merge.recipe import DataFlowRecipe
from evo_merge.trackers.base import Candidate, Generation, SearchStart

_MOST_GENES = 512  # of a row; beyond, thousands of charts would say nothing, and the path and the study have it all
MODES = ("auto", "online", "offline", "disabled")
_log = logging.getLogger(__name__)


class WandbTracker:
    """Tells W&B of every candidate. W&B failing never ends a search: it is warned of once, and W&B hears no more."""

    def __init__(
        self,
        run_id: str,
        run_folder: Path,
        *,
        project: str,
        entity: str | None,
        name: str | None,
        group: str | None,
        mode: str,
        tags: Sequence[str],
    ) -> None:
        """Find out whether W&B is told online; nothing is sent yet.

        Args:
            run_id: The same for all parts of a resumed run.
            run_folder: W&B keeps its files in ``wandb/`` inside it.
            project: Where W&B puts the run.
            entity: User or team; ``None`` is the key's own.
            name: Of the run; ``None`` lets W&B invent one.
            group: Shared by the runs of a sweep.
            mode: ``online``, ``offline``, ``disabled``, or ``auto``: what ``WANDB_MODE`` says, else online where there
                is an API key and offline where there is none.
            tags: For filtering runs.

        Raises:
            ConfigError: W&B does not take one of these, or the mode is online without an API key.
        """
        self._run_id = run_id
        self._settings = _settings(
            mode=_mode(mode),
            run_id=run_id,
            # W&B's service outlives a run and has the working folder of the process' first one.
            root_dir=str(run_folder.absolute()),
            project=project,
            entity=entity,
            run_name=name,
            run_group=group,
            run_tags=tuple(tags),
        )
        self._logger: WandbLogger | None = None
        self._objectives: tuple[str, ...] = ()
        self._genes: tuple[str, ...] = ()
        self._best: dict[str, float] = {}
        self._is_complete = False
        self._is_quiet = False

    def start(self, start: SearchStart) -> None:
        """Open the run, with the config and the baselines."""
        self._objectives = start.objectives
        prefix = f"{start.stage}/" if start.stage else ""
        self._genes = tuple(f"{prefix}{gene.name}" for gene in start.genes)
        for member in start.front:  # together they hold the greatest of each objective
            self._keep_best(member)
        if self._logger is None:
            self._tell(lambda: self._open(start))

    def candidate(self, candidate: Candidate) -> None:
        """Log a candidate's genome, scores and costs."""
        row = self._candidate_row(candidate)
        self._tell(lambda: self._write(row, step=candidate.number + candidate.round))

    def generation(self, generation: Generation) -> None:
        """Log the best and the mean of a generation."""
        row = self._generation_row(generation)
        # One row a generation has come before its candidates' rows and those of all earlier generations.
        last = max((candidate.number for candidate in generation.candidates), default=0)
        self._tell(lambda: self._write(row, step=last + generation.round + 1))

    def stage(self, text: str) -> None:
        """Nothing for W&B."""

    def finish(self, summary: Mapping[str, Any], files: Sequence[Path]) -> None:
        """Keep the numbers of the final table, and recipe and report as an artifact."""
        self._is_complete = True
        self._tell(lambda: self._conclude(summary, files))

    def close(self) -> None:
        """Close the run: as finished if the search is, as failed if it was broken off."""
        self._tell(self._finish)
        self._logger = None

    def _open(self, start: SearchStart) -> None:
        # Opened here and not by WandbLogger, which makes 'trainer/global_step', that no search has, every chart's axis.
        run = wandb.init(settings=self._settings, resume="allow", reinit="create_new")
        self._logger = WandbLogger(experiment=run)
        for metrics in (
            "gene/*",
            "fitness/*",
            "metric/*",
            "best/*",
            "seconds/*",
            "new_tokens",
            "drafted_tokens",
            "accepted_tokens",
            "degenerate_answers",
            "failed",
            "repeated",
            "stopped",
            "asked",
            "violation",
        ):
            run.define_metric(metrics, step_metric="candidate")
        for metrics in ("generation_best/*", "generation_mean/*", "generation_failed"):
            run.define_metric(metrics, step_metric="generation")
        self._logger.log_hyperparams(dict(start.config))
        baselines = {f"baseline/{name}": score for name, score in start.baselines.items()}
        run.summary.update(_finite(baselines))
        if not run.offline:
            _log.info("W&B: %s", run.url)

    def _candidate_row(self, candidate: Candidate) -> dict[str, Any]:
        evaluation = candidate.evaluation
        row: dict[str, Any] = {
            "candidate": candidate.number,
            "generation": candidate.generation,
            "failed": int(evaluation.failure is not None),
            "repeated": int(candidate.repeated),
            "seconds/merge": evaluation.cost.merge_seconds,
            "seconds/evaluation": evaluation.cost.evaluation_seconds,
            "new_tokens": evaluation.cost.new_tokens,
            "drafted_tokens": evaluation.cost.n_drafted,
            "accepted_tokens": evaluation.cost.n_accepted,
            "degenerate_answers": evaluation.cost.n_degenerate,
        }
        if candidate.stage:
            row["stage"] = candidate.stage
        if isinstance(candidate.recipe, DataFlowRecipe):
            row["path"] = " ".join(f"{step.model}.{step.layer}*{step.scale:.3g}" for step in candidate.recipe.path)
        if len(self._genes) <= _MOST_GENES:
            row |= {f"gene/{name}": float(value) for name, value in zip(self._genes, candidate.genome, strict=True)}
        if candidate.is_stopped:  # its scores, of some of the problems, do not belong into the same charts
            row |= {"stopped": 1, "asked": len(evaluation.scores)}
        else:
            row |= {f"metric/{name}": value for name, value in evaluation.means.items()}
            row |= {f"fitness/{name}": value for name, value in self._keep_best(candidate).items()}
        row |= {f"best/{name}": value for name, value in self._best.items()}
        if evaluation.violation > 0:
            row["violation"] = evaluation.violation
        if evaluation.failure is not None:
            row["failure"] = evaluation.failure
        return row

    def _keep_best(self, candidate: Candidate) -> dict[str, float]:
        """Take note of a candidate's fitness, and return it by name; a constraint that is missed leaves no best."""
        fitness = dict(zip(self._objectives, map(float, candidate.evaluation.fitness), strict=True))
        for name, value in fitness.items() if candidate.evaluation.violation == 0 else ():
            self._best[name] = max(value, self._best.get(name, -math.inf))
        return fitness

    def _generation_row(self, generation: Generation) -> dict[str, Any]:
        full = [candidate.evaluation for candidate in generation.candidates if not candidate.is_stopped]
        kept = [evaluation for evaluation in full if evaluation.violation == 0]
        fitness = np.array([evaluation.fitness for evaluation in kept])  # (n, n_objectives)
        scored = fitness[np.isfinite(fitness).all(axis=1)] if len(fitness) else fitness
        row: dict[str, Any] = {"generation": generation.number, "generation_failed": len(fitness) - len(scored)}
        for column, name in enumerate(self._objectives if len(scored) else ()):
            row[f"generation_best/{name}"] = float(scored[:, column].max())
            row[f"generation_mean/{name}"] = float(scored[:, column].mean())
        return row

    def _write(self, row: Mapping[str, Any], step: int) -> None:
        assert self._logger is not None
        # Committed at once, so that no row waits for the next; WandbLogger.log_metrics takes no step of W&B's own.
        self._logger.experiment.log(_finite(row), step=step, commit=True)

    def _conclude(self, summary: Mapping[str, Any], files: Sequence[Path]) -> None:
        assert self._logger is not None
        run = self._logger.experiment
        run.summary.update(_finite(_flat(summary)))
        artifact = wandb.Artifact(f"run-{self._run_id}", type="merge")
        for file in files:
            if file.is_file():
                artifact.add_file(str(file), policy="immutable")  # else W&B copies it to a folder in the user's home
        run.log_artifact(artifact)

    def _finish(self) -> None:
        if self._logger is not None:
            self._logger.experiment.finish(exit_code=0 if self._is_complete else 1)

    def _tell(self, action: Callable[[], None]) -> None:
        if self._is_quiet:
            return
        try:
            action()
        except Exception as error:  # noqa: BLE001 - whatever happens to W&B, the search goes on
            self._is_quiet = True
            _log.warning("W&B hears no more of this run (the search goes on): %s", error)


def _settings(**values: Any) -> wandb.Settings:
    try:
        return wandb.Settings(
            **values,
            silent=True,
            console="off",  # else W&B records everything that the progress display draws
            x_transaction_log_flush_interval=1.0,  # seconds; a killed search loses as much of its record, by default 15
            disable_git=True,
            disable_code=True,
        )
    except (ValueError, UsageError) as error:
        raise ConfigError(f"tracker: W&B says {' '.join(str(error).split())}") from error


def _mode(mode: str) -> str:
    if mode not in MODES:
        raise ConfigError(f"tracker.mode must be one of {', '.join(MODES)}, got '{mode}'")
    chosen = os.environ.get("WANDB_MODE") if mode == "auto" else mode
    if chosen == "online" and not _has_api_key():
        raise ConfigError("W&B needs an API key to be told online: run 'wandb login', or set tracker.mode=offline")
    return chosen or ("online" if _has_api_key() else "offline")


def _has_api_key() -> bool:
    """Whether W&B would find one (environment, netrc, its settings file), by its own rules, without asking anyone."""
    host = wandb.setup(wandb.Settings(silent=True)).settings.base_url
    try:
        return wbauth.authenticate_session(host=host, source="evo_merge", prompt=False, update_session=False) is not None
    except AuthenticationError as error:
        raise ConfigError(f"W&B cannot use its API key: {error}") from error


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without the numbers that are not: a failed candidate has no fitness, and W&B keeps minus infinity as a text."""
    return {name: value for name, value in values.items() if not isinstance(value, float) or math.isfinite(value)}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}/") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat
