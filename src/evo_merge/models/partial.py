"""A folder while it is written: beside its place, with a journal, so that what is interrupted can be gone on with.

``<folder>.partial`` is renamed to ``<folder>`` when everything in it is on the disk. Its journal says whose it is and how many
tensors are whole; a count is written down only after the tensors, so it holds after a power cut as well as after a kill.
"""

import errno
import fcntl
import logging
import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from evo_merge.errors import ModelError
from evo_merge.models.residency import gigabytes
from evo_merge.models.shard import Shard, flush_to_disk, write_header

log = logging.getLogger(__name__)
SUFFIX = ".partial"
JOURNAL = "build.journal"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class PartialFolder:
    """The folder being written, and how far it is; from ``partial_folder``.

    Attributes:
        path: Where to write.
        done: Tensors that are whole, in the order of the shards.
    """

    def __init__(self, path: Path, journal: BinaryIO, done: int) -> None:
        self.path, self.done = path, done
        self._journal = journal

    @contextmanager
    def opened(self, shard: Shard, n_whole: int) -> Iterator[BinaryIO]:
        """The shard's file, unbuffered, at the end of the tensors that are whole; of none, behind a new header."""
        path = self.path / shard.file
        with path.open("r+b" if n_whole else "wb", buffering=0) as file:
            if n_whole:
                file.truncate(shard.length(n_whole))
                file.seek(0, os.SEEK_END)
            else:
                write_header(file, shard)
            yield file
            os.fsync(file.fileno())

    def mark(self, done: int, file: BinaryIO | None = None) -> None:
        """Write down that so many tensors are whole, and on the disk; a file that is still open is made sure of first."""
        if file is not None:
            os.fsync(file.fileno())
        self.done = done
        self._journal.write(f"{done}\n".encode())


@contextmanager
def partial_folder(folder: Path, identity: str, shards: Sequence[Shard]) -> Iterator[PartialFolder]:
    """What will be ``folder`` when the block has ended without an exception.

    An interrupt (Ctrl-C, a kill) leaves ``<folder>.partial``, and the next call with the same identity goes on with it. Any
    other exception removes it, for it would come again. Without shards there is nothing to go on with, and an interrupt
    removes it, too.

    Args:
        folder: From ``place_for``.
        identity: One line that tells this build from others; what another left is thrown away.
        shards: What will be written; only these files are kept of what is found.

    Raises:
        ModelError: Another process is writing the folder, or the disk is full.
    """
    try:
        with _beside(folder, identity, shards) as partial:
            yield partial
    except Exception as error:
        if not is_disk_full(error):
            raise
        needed = sum(shard.length(len(shard.names)) for shard in shards)
        raise ModelError(
            f"the disk was full before '{folder}' was written: {f'it needs {gigabytes(needed)}, and ' if needed else ''}"
            f"{gigabytes(shutil.disk_usage(folder.parent).free)} are free now that what there was of it is removed; "
            "make room, or choose another folder"
        ) from error


@contextmanager
def _beside(folder: Path, identity: str, shards: Sequence[Shard]) -> Iterator[PartialFolder]:
    path = folder.with_name(folder.name + SUFFIX)
    path.mkdir(parents=True, exist_ok=True)
    with (path / JOURNAL).open("a+b", buffering=0) as journal:
        _lock(journal, folder)
        done = _whole_tensors(path, journal, identity, shards)
        _clear(path, keep={JOURNAL, *(shard.file for shard in shards)} if done else {JOURNAL})
        if not done:
            journal.truncate(0)
            journal.write(f"{identity}\n".encode())
        try:
            yield PartialFolder(path, journal, done)
            for each in path.rglob("*"):
                flush_to_disk(each)
            (path / JOURNAL).unlink()
            if folder.exists():
                folder.rmdir()
            os.replace(path, folder)
            flush_to_disk(folder.parent)
        except BaseException as error:
            if isinstance(error, Exception) or not shards:
                shutil.rmtree(path, ignore_errors=True)
            raise


def place_for(folder: Path) -> Path:
    """The absolute path of a folder that is to be written; raises ``ModelError`` where it cannot be."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ModelError(f"'{folder}' exists and is not empty; choose another folder")
    path = folder.resolve()
    if path == Path.cwd():
        raise ModelError(f"'{folder}' is the folder that this runs in, which cannot be replaced; name one to be made in it")
    above = next(each for each in path.parents if each.exists())
    for each in (above, path.with_name(path.name + SUFFIX)):
        if each.exists() and not each.is_dir():
            raise ModelError(f"'{folder}' cannot be written, as '{each}' is a file; choose another folder")
    return path


def is_disk_full(error: BaseException) -> bool:
    """Whether an exception says that there was no room, in the words of Python or of a library in Rust."""
    return (isinstance(error, OSError) and error.errno in _FULL) or any(f"os error {n})" in str(error) for n in _FULL)


def already_written(folder: Path) -> int:
    """Bytes that an interrupted build of the folder left."""
    path = folder.with_name(folder.name + SUFFIX)
    return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())


def _lock(journal: BinaryIO, folder: Path) -> None:
    try:
        fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ModelError(f"another process is writing '{folder}'; wait for it, or choose another folder") from error


def _whole_tensors(path: Path, journal: BinaryIO, identity: str, shards: Sequence[Shard]) -> int:
    """How many tensors of this build are there from before."""
    journal.seek(0)
    first, *counts = journal.read().decode(errors="replace").split("\n")
    done = max((int(count) for count in counts if count.isdigit()), default=0)
    if first == identity and done and _are_there(path, shards, done):
        tensors = [(shard, name) for shard in shards for name in shard.names]
        there, needed = (sum(shard.n_bytes(name) for shard, name in some) for some in (tensors[:done], tensors))
        log.info(
            "going on with the interrupted build in '%s': %d of %d tensors are there, %s of %s",
            *(path, done, len(tensors), gigabytes(there), gigabytes(needed)),
        )
        return done
    if first and first != identity:
        log.info("what is in '%s' is of another recipe or other models; starting over", path)
    elif first:
        log.info("of the interrupted build in '%s' nothing is known to be whole; starting over", path)
    return 0


def _are_there(path: Path, shards: Sequence[Shard], done: int) -> bool:
    begun = [(path / shard.file, shard.length(n_whole)) for shard, n_whole in n_whole_of(shards, done) if n_whole]
    return all(file.is_file() and file.stat().st_size >= length for file, length in begun)


def n_whole_of(shards: Sequence[Shard], done: int) -> Iterator[tuple[Shard, int]]:
    """Each shard with the number of its tensors that are whole, where the first ``done`` of all are."""
    for shard in shards:
        n_whole = min(done, len(shard.names))
        done -= n_whole
        yield shard, n_whole


def _clear(path: Path, keep: Collection[str]) -> None:
    for each in path.iterdir():
        if each.name not in keep:
            shutil.rmtree(each) if each.is_dir() else each.unlink()
