"""How far a checkpoint is written: a bar on a terminal, elsewhere a line now and then."""

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

EVERY = 10.0  # seconds between two lines, so that a quick build prints none


class Writing:
    """Shows bytes: ``with Writing() as writing: write_checkpoint(…, told=writing)``."""

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Write to ``console``, or to the standard output; ``clock`` tells seconds."""
        self._console = console or Console(highlight=False)
        self._clock = clock
        self._last: float | None = None
        self._bar: Progress | None = None

    def __call__(self, done: int, total: int) -> None:
        """So many bytes of all are written; the first call says that the work begins."""
        if self._console.is_terminal:
            self._draw(done, total)
            return
        now = self._clock()
        if self._last is None:
            self._last = now
        elif now - self._last >= EVERY and done < total:
            self._last = now
            self._console.print(Text(f"{done / 1e9:.1f} of {total / 1e9:.1f} GB"), soft_wrap=True)
            self._console.file.flush()  # a pipe is block-buffered

    def __enter__(self) -> "Writing":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Leave the bar as it is, whole or not."""
        if self._bar is not None:
            self._bar.stop()

    def _draw(self, done: int, total: int) -> None:
        if self._bar is None:
            self._bar = Progress(
                TextColumn("writing"),
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._bar.add_task("", total=total, completed=done)  # what an earlier build wrote counts for no speed
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], completed=done)
        if done >= total:
            self._bar.stop()  # what is logged next begins a line
