"""Runs to compare."""

from pathlib import Path

import pytest

from swept_runs import write_swept


@pytest.fixture
def three_by_three(tmp_path: Path) -> list[Path]:
    """Three optimizers, three seeds, in the same order of every seed."""
    tests = {"random": (0.4, 0.5, 0.3), "cmaes": (0.6, 0.65, 0.7), "de": (0.5, 0.55, 0.4)}
    return [
        write_swept(tmp_path / f"{name}-{seed}", name, seed, (0.25, tests[name][seed] - 0.1, 0.2), tests[name][seed])
        for name in tests
        for seed in range(3)
    ]
