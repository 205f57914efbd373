"""Builds of one recipe, each killed at another place: ``python killed_builds.py RECIPE FOLDER SHARD_BYTES MARK_BYTES``.

Every build is a process of its own (a fork of this one, so that torch is imported once) that sends itself SIGKILL.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any, BinaryIO

from torch import Tensor

from evo_merge.models import checkpoint
from evo_merge.models.pool import Pool
from evo_merge.models.shard import Shard, write_tensor
from evo_merge.recipe_file import from_yaml

TENSORS = (0, 1, 7, 20)  # how many are written before the kill
DESCRIPTION = "description"  # killed when all weights are there


def main() -> int:
    """Leave one ``<place>.partial`` a place; returns 1 where a build was not killed."""
    recipe = from_yaml(Path(sys.argv[1]).read_text(encoding="utf-8"))
    folder = Path(sys.argv[2])
    checkpoint.SHARD_BYTES, checkpoint.MARK_BYTES = int(sys.argv[3]), int(sys.argv[4])
    checkpoint.built(recipe, Pool.of_recipe(recipe))  # so that the forks have imported what it takes
    for place in (*map(str, TENSORS), DESCRIPTION):
        if (child := os.fork()) == 0:
            if place == DESCRIPTION:
                checkpoint._write_description = _die  # type: ignore[assignment]
            else:
                checkpoint.write_tensor = _dying_after(int(place))  # type: ignore[assignment]
            checkpoint.write_checkpoint(recipe, Pool.of_recipe(recipe), folder / place)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
            return 1
    return 0


def _die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _dying_after(count: int) -> Any:
    """Writes so many tensors, and half of the next."""
    written = 0

    def write(file: BinaryIO, shard: Shard, name: str, tensor: Tensor) -> None:
        nonlocal written
        if written == count:
            file.write(bytes(tensor.nbytes // 2))
            _die()
        write_tensor(file, shard, name, tensor)
        written += 1

    return write


if __name__ == "__main__":
    sys.exit(main())
