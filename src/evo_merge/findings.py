"""What a check finds about the models of a run, as values: a refusal, a warning or a note, with what to do about it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from evo_merge.errors import IncompatibleModelsError

Severity = Literal["refusal", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence about one model or two.

    Attributes:
        name: Stable; ``docs/check.md`` lists them all.
        severity: A refusal keeps a run from starting, a warning is logged, a note says what is as it should be.
        text: What was found, naming the models.
        mend: What to do about it.
        models: Names of the models concerned.
    """

    name: str
    severity: Severity
    text: str
    mend: str = ""
    models: tuple[str, ...] = ()

    @property
    def is_refusal(self) -> bool:
        """Whether nothing can be merged before it is mended."""
        return self.severity == "refusal"

    @property
    def is_warning(self) -> bool:
        """Whether it speaks against merging, without forbidding it."""
        return self.severity == "warning"

    @property
    def sentence(self) -> str:
        """What was found, and what to do."""
        return f"{self.text}; {self.mend}" if self.mend else self.text


def refusals(findings: Iterable[Finding]) -> list[Finding]:
    """Those that keep a run from starting."""
    return [finding for finding in findings if finding.is_refusal]


def warnings(findings: Iterable[Finding]) -> list[Finding]:
    """Those that are only said."""
    return [finding for finding in findings if finding.is_warning]


def refuse(findings: Sequence[Finding], head: str) -> None:
    """Raise ``IncompatibleModelsError`` with every refusal among the findings; of several, each is a line of its own.

    Args:
        findings: Of any severity.
        head: What cannot be done, such as ``these models cannot be merged``.
    """
    found = [f"{finding.name}: {finding.sentence}" for finding in refusals(findings)]
    if len(found) == 1:
        raise IncompatibleModelsError(f"{head}: {found[0]}")
    if found:
        raise IncompatibleModelsError("\n- ".join([f"{head}, for {len(found)} reasons:", *found]))
