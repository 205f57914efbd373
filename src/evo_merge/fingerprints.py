"""What tells files from others without reading all of them."""

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import _Hash

SAMPLE = 1 << 20  # bytes at each end
_SETTINGS = re.compile(r"\+[0-9a-f]+")


def add_ends(digest: "_Hash", path: Path) -> None:
    """Add a file's size, beginning and end to a digest, in no time for files of any size."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        digest.update(f"{size}\n".encode())
        for start in (0, max(0, size - SAMPLE)):
            file.seek(start)
            digest.update(file.read(SAMPLE))


def digest_of_file(path: Path) -> str:
    """A digest of a file's size, beginning and end: 64 hexadecimal digits."""
    digest = hashlib.sha256()
    add_ends(digest, path)
    return digest.hexdigest()


def with_settings(fingerprint: str, path: Path) -> str:
    """The fingerprint of an adapter's weights with the digest of the settings (rank, alpha) that say what they mean."""
    return f"{fingerprint}+{digest_of_file(path)}" if path.is_file() else fingerprint


def is_same(known: str | None, found: str) -> bool:
    """Whether a fingerprint that was kept is the one found; one kept before adapters had their settings in it counts, too."""
    return known in (found, _SETTINGS.sub("", found))
