"""``python -m evo_merge.check models=POOL``: what keeps a pool from being merged; ``measure=true``: how mergeable it is."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from evo_merge.command_line import run_hydra

if TYPE_CHECKING:
    from evo_merge.findings import Finding
    from evo_merge.mergeability import Mergeability
    from evo_merge.models.pool import Pool

PARTS = ("models",)
_WIDTH = 120


def main() -> int:
    """Run the command; returns the exit code."""
    return run_hydra("check", _job)


def _job(config: DictConfig) -> None:
    from evo_merge.config import check

    check(config, PARTS)
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    from evo_merge.findings import refusals
    from evo_merge.models.compatibility import despite
    from evo_merge.models.pool import UnreadableModelsError

    pool: Pool | None = None
    try:
        pool = instantiate(config.models, headers_only=not config.measure, _convert_="all")
        found = _findings(pool, on_paths=config.paths)
    except InstantiationException as error:
        if not isinstance(error.__cause__, UnreadableModelsError):
            raise
        found = despite(error.__cause__, on_paths=config.paths)
    print(listed(found))  # noqa: T201
    if refused := refusals(found):
        raise _refused(refused)
    if pool is not None and (rows := _rows(pool)):
        print(f"\n{rows}")  # noqa: T201
    if pool is not None and config.measure:
        if apart := _apart(pool):  # which paths may run through all the same
            print(f"\nNot measured: the weights of these models cannot be compared one by one ({apart}).")  # noqa: T201
            return
        from evo_merge.evaluation.setup import few_threads
        from evo_merge.models.measure_pool import measure

        with few_threads(pool):
            print(f"\n{describe(measure(pool))}")  # noqa: T201


def _rows(pool: Pool) -> str:
    """Whose tokens the merge has, where rows are matched by token: a line a model; empty where they are not."""
    from evo_merge.models.aligned import AlignedModel

    if not isinstance(pool.leader, AlignedModel):
        return ""
    alignment = pool.leader.alignment
    vocabulary = alignment.vocabulary
    first, tokens = vocabulary.models[0].tokens, vocabulary.numbers
    lines = [f"The merge has {len(tokens):,} tokens in {vocabulary.n_rows:,} rows, matched by token:"]
    for name, words in zip(alignment.names, vocabulary.models, strict=True):
        counts = {
            "": len(words.tokens),
            f"shared with {alignment.names[0]}": 0 if words.tokens is first else len(words.tokens.keys() & first.keys()),
            "new": len((words.tokens.keys() - first.keys()) & tokens.keys()),
            "left out": len(words.tokens.keys() - tokens.keys()),
        }
        lines.append(f"- {name}: " + ", ".join(f"{n:,} {what}".strip() for what, n in counts.items() if n))
    return "\n".join(lines)


def _apart(pool: Pool) -> str:
    """Names of what keeps the weights of a pool from being mixed, which is what keeps them from being measured."""
    from evo_merge.findings import refusals
    from evo_merge.models.compatibility import describe, for_mixing

    return ", ".join(dict.fromkeys(finding.name for finding in refusals(for_mixing(describe(pool.base, pool.sources)))))


def _refused(found: Sequence[Finding]) -> Exception:
    from evo_merge.errors import IncompatibleModelsError

    names = ", ".join(dict.fromkeys(finding.name for finding in found))
    return IncompatibleModelsError(f"these models cannot be merged as they are: {names} (above, with what to do about each)")


def _findings(pool: Pool, *, on_paths: bool) -> list[Finding]:
    from evo_merge.models import compatibility
    from evo_merge.models.checks.alone import licence_findings

    if on_paths:
        pool = pool.for_paths()
    described = compatibility.describe(pool.base, pool.sources)
    found = compatibility.for_paths(described) if on_paths else compatibility.for_mixing(described)
    if on_paths:
        found += compatibility.in_searched_paths(described)
    else:
        found += compatibility.in_memory(described)
        found += compatibility.in_values(described, found)
    return [*found, *licence_findings(pool.models)]


def listed(found: Sequence[Finding]) -> str:
    """The findings, refusals first: how grave, the name, the sentence, and below it what to do."""
    if not found:
        return "Nothing was found that speaks against merging these models."
    graves = ("refusal", "warning", "note")
    blocks = []
    for finding in sorted(found, key=lambda each: graves.index(each.severity)):
        lines = [f"{finding.severity}  {finding.name}", *_wrapped(finding.text, "  ")]
        blocks.append("\n".join(lines + (_wrapped(finding.mend, "  → ") if finding.mend else [])))
    return "\n".join(blocks)


def _wrapped(text: str, start: str) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=start, subsequent_indent=" " * len(start), break_on_hyphens=False, break_long_words=False
    )


def describe(found: Mergeability) -> str:
    """The measures as tables, then what they mean, a line each; ``!`` marks what speaks against merging."""
    size = f"{found.n_weights:,} weights each"
    if found.base is None:
        blocks = [f"no base, {size}", _pairs_without_base(found)]
    else:
        blocks = [f"base {found.base}, {size}, norm {found.base_norm:.4g}", _sources(found), _pairs(found)]
    blocks.append("\n".join(f"{'!' if finding.is_warning else '-'} {finding.text}" for finding in found.findings))
    return "\n\n".join(block for block in blocks if block)


def _sources(found: Mergeability) -> str:
    head = ("source", "from the base?", "relative norm", "norm of task vector", "entries changed", "cosine with its matrices")
    rows = [
        (
            source.name,
            source.descends or "–",
            _number(source.relative_norm),
            _number(source.task_norm),
            _percent(source.changed),
            _number(source.base_cosine),
        )
        for source in found.sources
    ]
    return _table(head, rows)


def _pairs(found: Mergeability) -> str:
    head = ("task vectors of", "cosine", "kinship", "opposite signs", "weighted by size")
    rows = [
        (
            f"{pair.first}, {pair.second}",
            _number(pair.cosine),
            _number(pair.kinship),
            _percent(pair.sign_conflict),
            _percent(pair.weighted_conflict),
        )
        for pair in found.pairs
    ]
    if len(rows) > 1:
        rows.append(("mean", "", _number(found.mean_kinship), "", ""))
    return _table(head, rows) if rows else ""


def _pairs_without_base(found: Mergeability) -> str:
    head = ("weights of", "one ancestor?", "relative distance", "cosine of matrices")
    rows = [
        (f"{pair.first}, {pair.second}", pair.are_kin, _number(pair.distance), _number(pair.weight_cosine))
        for pair in found.pairs
    ]
    return _table(head, rows) if rows else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Names to the left, numbers to the right, two spaces between columns."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = [
        [cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths, strict=True))]
        for row in (head, *rows)
    ]
    return "\n".join("  ".join(line).rstrip() for line in lines)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


if __name__ == "__main__":
    sys.exit(main())
