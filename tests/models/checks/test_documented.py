"""The table of findings in the docs is the one in the code."""

from pathlib import Path

from evo_merge.models.checks.kinds import KINDS


def test_the_docs_list_every_finding_as_it_is() -> None:
    page = (Path(__file__).parents[3] / "docs" / "check.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `") and line.count("|") == 6]
    assert rows == [
        f"| `{kind.name}` | {kind.severity} | {kind.on_paths or ''} | {kind.meaning} | {kind.mend} |" for kind in KINDS.values()
    ]
