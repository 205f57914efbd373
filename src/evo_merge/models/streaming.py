"""Tensors made by several threads at once and handed out in their order, with no more than a window of them in memory."""

import ctypes
import os
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

import torch
from torch import Tensor

_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -3, -1  # glibc's malloc.h
_LARGE = 1 << 22  # bytes of an allocation that is given back to the system as soon as it is freed; those of parts are smaller
_KEPT = 1 << 26  # bytes that are freed and not given back, to be taken again without the system's help
WINDOW_BYTES = 256_000_000  # of memory for tensors that are being made or wait to be written


def in_order(
    names: Sequence[str],
    make: Callable[[str], Tensor],
    cost: Callable[[str], int],
    *,
    window: int = WINDOW_BYTES,
    workers: int | None = None,
) -> Generator[tuple[str, Tensor], None, None]:
    """Make the tensors of these names and yield each with its name, in the order of the names.

    While the caller has one, the next ones are made. Each is made by one thread with torch's own threads turned off: a sum over
    a tensor then comes out the same on any number of cores, and many small tensors keep all cores busy, which torch's threads
    do not. Close the generator (``contextlib.closing``) where it may be left early; it then waits for what is being made.

    Args:
        names: Of the tensors.
        make: One tensor by its name; called from several threads, and its errors are raised here when the name's turn comes.
        cost: Bytes of memory that making it takes at most.
        window: What the costs of the tensors being made or waiting may sum to; one that costs more is made alone.
        workers: Threads; by default as many as this process may use cores.
    """
    _give_back_at_once()
    threads, rest, held = torch.get_num_threads(), deque(names), 0
    waiting: deque[tuple[str, Future[Tensor]]] = deque()
    with ThreadPoolExecutor(workers or _n_cores(), "merge", initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            while rest or waiting:
                while rest and (not waiting or held + cost(rest[0]) <= window):
                    held += cost(rest[0])
                    waiting.append((rest[0], pool.submit(make, rest.popleft())))
                name, future = waiting.popleft()
                tensor = future.result()
                del future  # it would hold the tensor while the next one is waited for
                yield name, tensor
                del tensor
                held -= cost(name)
        finally:
            for _, future in waiting:
                future.cancel()
            # A part of torch's setting is the thread's own, a part of it is everyone's.
            torch.set_num_threads(threads)


def _give_back_at_once() -> None:
    """Have glibc map every large allocation by itself, and keep the room of the others.

    Told nothing of the latter it gives it back and takes it anew for every part of a tensor, which takes longer than merging.
    Left to itself it puts ever larger ones among the small ones, once it has seen such freed; between these, freed tensors are
    holes that fit no other: a build of 1.1B parameters came to 1.8 GB in place of 0.7.
    """
    with suppress(OSError, AttributeError, TypeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
        mallopt(_M_TRIM_THRESHOLD, _KEPT)


def _n_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
