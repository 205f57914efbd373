"""Progress on the console: a live display on a terminal, a short line a generation elsewhere, and the final table."""

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from evo_merge.pareto import Front
from evo_merge.trackers.base import Candidate, Generation, SearchStart
from evo_merge.trackers.remarks import remarks
from evo_merge.trackers.table import are_fractions, result_table, score_text

PLAIN_WIDTH = 120  # where there is no terminal to ask


class Progress:
    """Shows the search to whoever started it. Of several objectives it shows the best of each."""

    def __init__(self, console: Console | None = None) -> None:
        """Write to ``console``, or to the standard output."""
        self._console = console or Console(highlight=False)
        if not self._console.is_terminal:
            self._console.width = PLAIN_WIDTH
        self._live: Live | None = None
        self._start: SearchStart | None = None
        self._started = self._stage_started = time.monotonic()
        self._stage = ""
        self._generation = 0
        self._n_evaluated = 0
        self._n_repeated = 0
        self._n_failed = 0
        self._n_stopped = 0
        self._front: Front[Candidate] = Front()

    def start(self, start: SearchStart) -> None:
        """The search begins, or goes on."""
        is_first = self._start is None
        self._start = start
        self._front = Front()
        for member in start.front:
            self._front.add(member, member.evaluation.fitness, member.evaluation.violation)
        self._n_evaluated = self._n_repeated = self._n_failed = self._n_stopped = 0
        self._started = time.monotonic()
        self._stage = ""
        if self._console.is_terminal:
            self._show()
        else:
            budget = "" if start.evaluations is None else f", a budget of {start.evaluations} candidates"
            done = "" if start.evaluated == 0 else f", {start.evaluated} of them done"
            name = f"search {start.stage}" if start.stage else "search"
            to_beat = f"; {start.objectives[0]} to beat: {self._baselines()}" if is_first else ""
            self._say(f"{name}: {len(start.genes)} genes{budget}{done}{to_beat}")
            if is_first and start.evidence:
                self._say(start.evidence)

    def candidate(self, candidate: Candidate) -> None:
        """A candidate was evaluated."""
        self._generation = candidate.generation
        self._n_repeated += candidate.repeated
        self._n_evaluated += not candidate.repeated
        self._n_failed += candidate.evaluation.failure is not None
        self._n_stopped += candidate.is_stopped
        if not candidate.is_stopped:
            self._front.add(candidate, candidate.evaluation.fitness, candidate.evaluation.violation)

    def generation(self, generation: Generation) -> None:
        """A generation was told to the optimizer."""
        if self._console.is_terminal:
            return
        full = [candidate for candidate in generation.candidates if not candidate.is_stopped]
        scores = [score for candidate in full if math.isfinite(score := _fitness(candidate))]
        of = f"{self._start.objectives[0]} " if self._start is not None and len(self._start.objectives) > 1 else ""
        here = f"{of}here {self._shown(max(scores))}, mean {self._shown(sum(scores) / len(scores))}" if scores else "all failed"
        stage = f"{generation.candidates[0].stage}, " if generation.candidates[0].stage else ""
        n = len(self._front.members)
        front = f"front of {n}, " if self._start is not None and len(self._start.objectives) > 1 and n else ""
        so_far = f"{front}best {self._best_score()}; {here}; {self._counts()}; {self._times()}"
        self._say(f"{stage}generation {generation.number}: {so_far}")

    def stage(self, text: str) -> None:
        """What goes on outside the search."""
        self._stage = text
        self._stage_started = time.monotonic()
        if self._console.is_terminal:
            self._show()
        else:
            self._say(text)

    def finish(self, summary: Mapping[str, Any], files: Sequence[Path]) -> None:
        """The run is complete: the final table, what it does not show by itself, and where the files are."""
        self.close()
        self._console.print(result_table(summary))
        for remark in remarks(summary):
            self._console.print(Text(remark), soft_wrap=True)
        for file in files:
            self._console.print(Text(str(_from_here(file))), soft_wrap=True)
        self._flush()

    def close(self) -> None:
        """Leave the last state on the screen."""
        if self._live is not None:
            self._stage = ""
            self._live.stop()
            self._live = None

    # -- on a terminal -------------------------------------------------------------------------------------------------

    def _show(self) -> None:
        if self._live is None:
            self._live = Live(get_renderable=self._display, console=self._console, refresh_per_second=2)
            self._live.start()

    def _display(self) -> RenderableType:
        stage = Text(f"{self._stage} … {_clock(time.monotonic() - self._stage_started)}" if self._stage else "", style="cyan")
        if self._start is None:
            return stage
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        if self._start.stage:
            table.add_row("stage", Text(self._start.stage))
        table.add_row("generation", Text(f"{self._generation} · {self._counts()}"))
        if self._start.evaluations:
            done = self._start.evaluated + self._n_evaluated
            table.add_row("", ProgressBar(total=self._start.evaluations, completed=done, width=40))
        table.add_row("best", self._best_line())
        of = f" ({self._start.objectives[0]})" if len(self._start.objectives) > 1 else ""
        table.add_row(f"to beat{of}", Text(self._baselines()))
        table.add_row("time", Text(self._times()))
        if self._start.evidence:
            table.add_row("test split", Text(self._start.evidence))
        return Group(table, stage) if self._stage else table

    def _best_line(self) -> Text:
        assert self._start is not None
        line = Text(self._best_score(), style="bold green")
        members = self._front.members
        if not members:
            return line
        best = members[0]
        where = f"candidate {best.number}, generation {best.generation}" if len(members) == 1 else f"a front of {len(members)}"
        name = f" {self._start.objectives[0]}" if len(self._start.objectives) == 1 else ""
        return line.append(f"{name} ({where})", style="not bold default")

    # -- in both -------------------------------------------------------------------------------------------------------

    def _best_score(self) -> str:
        assert self._start is not None
        fitness = [member.evaluation.fitness for member in self._front.members]
        if not fitness:
            return "none yet"
        greatest = [float(max(column)) for column in zip(*fitness, strict=True)]
        if len(greatest) == 1:
            shown = [self._shown(greatest[0])]
        else:
            shown = [f"{name} {score_text(v, 0 <= v <= 1)}" for name, v in zip(self._start.objectives, greatest, strict=True)]
        violation = self._front.members[0].evaluation.violation  # all members miss as much
        return ", ".join(shown) + (f", which misses the constraints by {violation:.3g}" if violation > 0 else "")

    def _baselines(self) -> str:
        assert self._start is not None
        return " · ".join(f"{self._shown(score)} {name}" for name, score in self._start.baselines.items()) or "nothing"

    def _counts(self) -> str:
        assert self._start is not None
        done, budget = self._start.evaluated + self._n_evaluated, self._start.evaluations
        if budget is None or done <= budget:
            so_far = f"{done} candidates" if budget is None else f"{done} of {budget} candidates"
        else:
            so_far = f"{done} candidates, beyond the budget of {budget} as a generation is never cut"
        counts = {"repeated": self._n_repeated, "failed": self._n_failed, "stopped early": self._n_stopped}
        extra = [f"{n} {what}" for what, n in counts.items() if n]
        return so_far + (f" ({', '.join(extra)})" if extra else "")

    def _times(self) -> str:
        assert self._start is not None
        elapsed = time.monotonic() - self._started
        parts = [f"{_clock(self._start.seconds + elapsed)} spent"]
        if self._n_evaluated:
            each = elapsed / self._n_evaluated
            parts.insert(0, f"{each:.2f} s a candidate")
            if self._start.evaluations is not None:
                left = max(0, self._start.evaluations - self._start.evaluated - self._n_evaluated)
                parts.append(f"about {_clock(left * each)} left")
        return " · ".join(parts)

    def _shown(self, score: float) -> str:
        assert self._start is not None
        return score_text(score, are_fractions(self._start.baselines.values()))

    def _say(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)
        self._flush()

    def _flush(self) -> None:
        self._console.file.flush()  # a pipe is block-buffered


def _fitness(candidate: Candidate) -> float:
    return float(candidate.evaluation.fitness[0])


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _from_here(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_absolute() and path.is_relative_to(Path.cwd()) else path
