"""Files written as a stream: byte for byte what safetensors writes."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from evo_merge.models.shard import Shard, write_header, write_tensor

DTYPES = (
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.float16, torch.bfloat16, torch.int32, torch.float32, torch.float64,
    torch.int64,
)  # fmt: skip


def shard_of(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> Shard:
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    return Shard("x", shapes, {name: tensor.dtype for name, tensor in tensors.items()}, metadata)


def written(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> bytes:
    shard = shard_of(tensors, metadata)
    with path.open("wb", buffering=0) as file:
        write_header(file, shard)
        for name in shard.names:
            write_tensor(file, shard, name, tensors[name])
    assert path.stat().st_size == shard.length()
    return path.read_bytes()


@pytest.mark.parametrize("metadata", [{}, {"recipe": '日本語 "quoted" \\ \t \x7f \u2028 \U0001f600'}])
def test_the_bytes_are_those_of_save_file(tmp_path: Path, metadata: dict[str, str]) -> None:
    """Of every dtype, in an order that is not theirs, with names that JSON must escape or must not."""
    generator = torch.Generator().manual_seed(0)
    names = ["b", "a", 'é"\x7f\u2028', "layers.10.w", "layers.9.w"]
    tensors = {
        f"{name}.{i}": torch.randint(0, 2, (3, i + 1), generator=generator).to(dtype)
        for i, dtype in enumerate(DTYPES)
        for name in names
    }
    tensors |= {"scalar": torch.tensor(3.0), "none": torch.zeros(0, 4), "across": torch.arange(12.0).reshape(3, 4).t()}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, tmp_path / "theirs", metadata=metadata or None)
    assert written(tmp_path / "ours", tensors, metadata) == (tmp_path / "theirs").read_bytes()


def test_metadata_are_in_the_order_of_their_keys(tmp_path: Path) -> None:
    """safetensors writes them in another order every time; all else of the header is the same."""
    tensors, metadata = {"w": torch.ones(2)}, {"recipe": "r", "format": "pt", "a": "0"}
    ours = written(tmp_path / "ours", tensors, metadata)
    save_file(tensors, tmp_path / "theirs", metadata=metadata)
    theirs = (tmp_path / "theirs").read_bytes()
    size = int.from_bytes(ours[:8], "little")
    assert list(json.loads(ours[8 : 8 + size])["__metadata__"]) == ["a", "format", "recipe"]
    assert json.loads(ours[8 : 8 + size]) == json.loads(theirs[8 : 8 + size])
    assert (ours[:8], ours[8 + size :]) == (theirs[:8], theirs[8 + size :])


def test_a_file_cut_short_is_no_file(tmp_path: Path) -> None:
    """So that an unfinished one is never read as a whole one."""
    tensors = {"a": torch.ones(4), "b": torch.ones(4)}
    whole = written(tmp_path / "whole", tensors, {})
    length = shard_of(tensors, {}).length(1)
    (tmp_path / "cut").write_bytes(whole[:length])
    assert whole[length:] == b"\x00\x00\x80\x3f" * 4  # b
    with pytest.raises(Exception, match=r"incomplete|invalid"):
        load_file(tmp_path / "cut")


@pytest.mark.parametrize("tensor", [torch.ones(3), torch.ones(4, dtype=torch.bfloat16)])
def test_a_tensor_that_the_header_does_not_announce_is_refused(tmp_path: Path, tensor: torch.Tensor) -> None:
    shard = shard_of({"w": torch.ones(4)}, {})
    with (tmp_path / "x").open("wb", buffering=0) as file, pytest.raises(ValueError, match="the header of 'x' has 'w' as"):
        write_tensor(file, shard, "w", tensor)
