"""One seed decides everything: every part gets a child of it, by name."""

import zlib

import numpy as np


def child_seed(seed: int, part: str) -> int:
    """A number from 0 to 2**31 - 1 for a part's own generator; the same for the same seed and name, on every machine."""
    return int(np.random.SeedSequence([seed, zlib.crc32(part.encode())]).generate_state(1)[0] >> 1)
