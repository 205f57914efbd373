"""What all tests share: no network, and the folder with data of other implementations."""

import os

# Before any library reads them.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "offline"

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder ``shared`` beside the checkout; the test is skipped where there is none."""
    folder = Path(__file__).parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"there is no folder {folder}")
    return folder
