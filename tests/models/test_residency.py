"""Where models wait, and what the plan says of it."""

from pathlib import Path

import pytest
import torch

from evo_merge.models import residency
from evo_merge.models.pool import Pool
from evo_merge.models.residency import candidate_bytes, choose_residency, gigabytes, residency_of, weight_bytes

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def pool_of(family: Path, where: str = "auto") -> Pool:
    return Pool(base=str(family / "base"), sources=[str(family / "a"), str(family / "b")], residency=where)


def with_free(monkeypatch: pytest.MonkeyPatch, *, cpu: int, cuda: int) -> None:
    monkeypatch.setattr(residency, "free_bytes", lambda device: {"cpu": cpu, "cuda": cuda}[device.type])


def test_the_first_place_with_room_is_taken_and_the_reason_has_its_sizes(family: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pool_of(family)
    needed, with_candidate = weight_bytes(pool), weight_bytes(pool) + candidate_bytes(pool)
    room = round(with_candidate / 0.6) + 2
    with_free(monkeypatch, cpu=10 * room, cuda=room)
    found = residency_of(pool, GPU)
    assert (found.place, found.reason) == (
        "device",
        f"with a candidate they fit into 60% of the {gigabytes(room)} free on cuda",
    )
    with_free(monkeypatch, cpu=10 * room, cuda=room - 4)
    found = residency_of(pool, GPU)
    assert found.place == choose_residency(pool, GPU) == "host"
    assert found.reason.startswith(
        f"with a candidate they are more than 60% of the {gigabytes(room - 4)} free on cuda, and fit into"
    )
    assert found.reason.endswith(f"60% of the {gigabytes(10 * room)} of free host memory")
    with_free(monkeypatch, cpu=round(needed / 0.6) - 2, cuda=0)
    found = residency_of(pool, GPU)
    assert found.place == "disk"
    assert found.reason.endswith("of free host memory")
    assert "and without a candidate more than 60%" in found.reason


def test_what_a_method_keeps_takes_room_on_the_device_wherever_the_models_wait(
    family: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = pool_of(family)
    weights, candidate = weight_bytes(pool), candidate_bytes(pool)
    prepared = 2 * weights
    host = round(weights / 0.6) + 2  # for the models alone
    for taken, where in (
        (weights + prepared + candidate, "device"),
        (prepared + candidate, "host"),
        (prepared, "disk"),
    ):
        with_free(monkeypatch, cpu=host, cuda=round(taken / 0.6) + 2)
        assert residency_of(pool, GPU, prepared=prepared).place == where
    with_free(monkeypatch, cpu=host, cuda=0)
    assert residency_of(pool, GPU).place == "host"
    assert residency_of(pool, CPU, prepared=prepared).place == "disk"


@pytest.mark.parametrize("where", ["device", "host", "disk"])
def test_what_the_user_says_holds(family: Path, where: str) -> None:
    found = residency_of(pool_of(family, where), CPU)
    assert (found.place, found.reason) == (where, "as models.residency says")
