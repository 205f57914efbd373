"""Several threads make tensors: all of them, in their order, within the window."""

import threading
from contextlib import closing

import pytest
import torch

from evo_merge.models.streaming import in_order

NAMES = [str(i) for i in range(40)]


def made(name: str) -> torch.Tensor:
    return torch.full((4,), float(name))


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("window", [0, 7, 1000])
def test_all_come_in_their_order(workers: int, window: int) -> None:
    tensors = list(in_order(NAMES, made, lambda _: 3, window=window, workers=workers))
    assert [name for name, _ in tensors] == NAMES
    assert all(torch.equal(tensor, made(name)) for name, tensor in tensors)


def test_no_more_than_the_window_is_made_ahead() -> None:
    begun: list[str] = []

    def make(name: str) -> torch.Tensor:
        begun.append(name)
        return made(name)

    with closing(in_order(NAMES, make, lambda _: 10, window=40, workers=3)) as tensors:
        for count in range(1, len(NAMES) + 1):
            next(tensors)
            assert len(begun) <= count + 3  # the one in hand and three more are four of ten bytes each


def test_what_is_larger_than_the_window_is_made_alone() -> None:
    running, most = set[str](), 0
    lock = threading.Lock()

    def make(name: str) -> torch.Tensor:
        nonlocal most
        with lock:
            running.add(name)
            most = max(most, len(running))
        tensor = made(name)
        with lock:
            running.remove(name)
        return tensor

    assert len(list(in_order(NAMES, make, lambda _: 100, window=40, workers=4))) == len(NAMES)
    assert most == 1


def test_they_are_made_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=60)

    def make(name: str) -> torch.Tensor:
        both.wait()  # breaks where one is made after the other
        return made(name)

    assert len(list(in_order(NAMES, make, lambda _: 1, workers=2))) == len(NAMES)


def test_an_error_comes_when_its_tensor_would() -> None:
    def make(name: str) -> torch.Tensor:
        if name == "5":
            raise ArithmeticError(name)
        return made(name)

    tensors = in_order(NAMES, make, lambda _: 1, workers=3)
    assert [next(tensors)[0] for _ in range(5)] == NAMES[:5]
    with pytest.raises(ArithmeticError, match="5"):
        next(tensors)


def test_torch_has_its_threads_back_afterwards() -> None:
    before = torch.get_num_threads()
    inside = []

    def make(name: str) -> torch.Tensor:
        inside.append(torch.get_num_threads())
        return made(name)

    with closing(in_order(NAMES, make, lambda _: 1, workers=2)) as tensors:
        next(tensors)
    assert set(inside) == {1}
    assert torch.get_num_threads() == before
    asked: list[int] = []
    thread = threading.Thread(target=lambda: asked.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert asked == [before]


def test_a_sum_is_the_same_on_any_number_of_threads() -> None:
    """torch would cut it into as many parts as it has threads."""
    numbers = torch.randn(3_000_000, generator=torch.Generator().manual_seed(0))
    totals = [
        [float(total) for _, total in in_order(NAMES[:6], lambda _: numbers.sum(), lambda _: 1, workers=workers)]
        for workers in (1, 2, 3)
    ]
    assert len({total for each in totals for total in each}) == 1
