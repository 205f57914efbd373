"""Stopping a run so that it can be continued."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from evo_merge.errors import Interrupted

log = logging.getLogger(__name__)


@contextmanager
def stop_on_interrupt(folder: Path, stop: threading.Event) -> Iterator[None]:
    """Ctrl-C, or a cluster's SIGTERM, sets a flag, so that the candidate in flight is recorded; a second one stops at once.

    Args:
        folder: Of the run, for the message that says how to go on.
        stop: The flag.

    Raises:
        Interrupted: The run was stopped.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        log.warning("stopping after this candidate; once more stops at once")

    previous = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as error:  # Lightning makes a SystemExit of a KeyboardInterrupt
        if isinstance(error, SystemExit) and not stop.is_set():
            raise
        raise Interrupted(f"stopped; everything so far is saved: continue with  python -m evo_merge resume={folder}") from error
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
