"""The nine tasks together: the columns of the paper's table and their average."""

from collections.abc import Mapping

from evo_merge.tasks.base import Task
from evo_merge.tasks.several import Several


def suite(
    *,
    parts: Mapping[str, Task],
    data: str | None,
    limit: Mapping[str, int | None],
    average: str,
    allow_overlap: bool,
) -> Several:
    """The parts as one task.

    Args:
        parts: By the name of their column.
        data: A folder that all parts look files up in. The parts' yamls refer to it, so that it is said once.
        limit: Per split how many rows of each part are used; likewise.
        average: What the mean of the columns is called; it names what stands in for published data.
        allow_overlap: Whether a part's split may share questions with another split of another part.
    """
    return Several(parts=parts, allow_overlap=allow_overlap, average=average)
