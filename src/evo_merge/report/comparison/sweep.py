"""Compares the runs of a sweep when it ends; ``conf/experiment/compare.yaml`` names it as a callback of Hydra's."""

# ruff: noqa: T201 (the command line's own voice)

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from evo_merge.errors import EvoMergeError


class WriteComparison(Callback):
    """Writes ``comparison.html`` and ``comparison.csv`` into the sweep's folder, whatever became of single jobs."""

    def __init__(self) -> None:
        self._jobs: list[tuple[Path, str]] = []

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        """Remember what was to be run: a job that fails leaves no folder behind."""
        if config.hydra.mode is RunMode.MULTIRUN:
            words = [word for word in config.hydra.overrides.task if not word.startswith("experiment=")]
            self._jobs.append((Path(config.hydra.sweep.dir) / config.hydra.sweep.subdir, " ".join(words)))

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Compare what is there; what cannot be compared is said in one sentence, as Hydra would only warn of an error."""
        from evo_merge.report.comparison.compare import compare
        from evo_merge.report.comparison.run import read_compared
        from evo_merge.report.comparison.wording import console_lines
        from evo_merge.report.comparison.write import write_comparison
        from evo_merge.study_file import FILE_NAME

        folder = Path(config.hydra.sweep.dir)
        failed = [words for job, words in self._jobs if not (job / FILE_NAME).is_file()]
        started = [job for job, _ in self._jobs if (job / FILE_NAME).is_file()]
        if not started:  # a plan, or every job said what is wrong with it
            return
        try:
            runs = [read_compared(job) for job in started]
            comparison = compare(runs)
            for path in write_comparison(comparison, folder, failed):
                print(path)
            for line in console_lines(comparison):
                print(line)
        except EvoMergeError as error:
            print(f"evo-merge: the runs are not compared: {error}", file=sys.stderr)
        except OSError as error:
            print(f"evo-merge: cannot write the comparison to '{error.filename or folder}': {error.strerror}", file=sys.stderr)
