"""Weights in safetensors files, memory-mapped, sharded or not; of models that were left on the hub, their headers."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from evo_merge.errors import ModelError
from evo_merge.models.shard import NAMES

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_LFS = b"version https://git-lfs"
_PICKLES = ("*.bin", "*.bin.index.json", "*.pt", "*.pth", "*.ckpt")
_DTYPES = {name: dtype for dtype, name in NAMES.items()}  # by their names in headers


def _unmixable(where: str, tensor: str, dtype: str) -> ModelError:
    return ModelError(
        f"'{where}' stores '{tensor}' as {dtype}, which cannot be merged",
        "name the model in full precision that it was made from",
        finding="quantised",
    )


def _begins_with(path: Path, text: bytes) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(text)) == text


def _what_else(folder: Path) -> str:
    """What a folder without weights is instead."""
    if not any(folder.iterdir()):
        return ": the folder is empty"
    if (folder / "config.json").is_file():
        return ": it holds a config without weights"
    return ": it holds a tokenizer and nothing else" if any(folder.glob("tokenizer*")) else ""


class HubHeaders:
    """The headers of weights that lie on the hub: a few kilobytes, enough for a plan, and nothing to be read."""

    def __init__(self, name: str, revision: str) -> None:
        from huggingface_hub import get_safetensors_metadata
        from huggingface_hub.errors import HfHubHTTPError, NotASafetensorsRepoError, SafetensorsParsingError

        try:
            files = get_safetensors_metadata(name, revision=revision).files_metadata.values()
        except NotASafetensorsRepoError as error:
            raise ModelError(
                f"'{name}' has no safetensors on the hub; pickled weights (.bin, .pt) can run code and are refused: convert it",
                finding="pickles_only",
            ) from error
        except (HfHubHTTPError, SafetensorsParsingError, OSError) as error:
            raise ModelError(f"the headers of '{name}' cannot be read from the hub: {error}") from error
        tensors = {tensor: info for file in files for tensor, info in file.tensors.items()}
        if strange := [tensor for tensor, info in tensors.items() if info.dtype not in _DTYPES]:
            raise _unmixable(name, strange[0], tensors[strange[0]].dtype)
        self.shapes: Mapping[str, tuple[int, ...]] = {tensor: tuple(info.shape) for tensor, info in tensors.items()}
        self.dtypes: Mapping[str, torch.dtype] = {tensor: _DTYPES[info.dtype] for tensor, info in tensors.items()}

    def read(self, name: str) -> Tensor:
        """Always raises: only a plan is made of headers."""
        raise RuntimeError(f"'{name}' was left on the hub; only its header was read")

    def forget(self) -> None:
        """Nothing is held."""


class SafetensorsWeights:
    """One ``model.safetensors``, or shards with an index."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, Any] = {}
        self._shard_of: dict[str, str] = {}
        self._named: dict[str, str] = {}  # by the index, where there is one
        self.shapes: Mapping[str, tuple[int, ...]]
        self.dtypes: Mapping[str, torch.dtype]
        shapes: dict[str, tuple[int, ...]] = {}
        dtypes: dict[str, torch.dtype] = {}
        for shard in self._shards():
            handle = self._open(shard)
            for name in handle.keys():  # noqa: SIM118  a handle is no mapping
                piece = handle.get_slice(name)
                if piece.get_dtype() not in _DTYPES:
                    raise _unmixable(str(folder / shard), name, piece.get_dtype())
                shapes[name] = tuple(piece.get_shape())
                dtypes[name] = _DTYPES[piece.get_dtype()]
                self._shard_of[name] = shard
        if lost := [name for name in self._named if name not in shapes]:
            raise ModelError(
                f"the index of '{folder}' names '{lost[0]}', which no shard holds",
                "download the model again",
                finding="index_mismatch",
            )
        self.shapes, self.dtypes = shapes, dtypes

    def read(self, name: str) -> Tensor:
        """One tensor, memory-mapped."""
        tensor: Tensor = self._files[self._shard_of[name]].get_tensor(name)
        return tensor

    def forget(self) -> None:
        """Nothing is held: the files are mapped."""

    def _shards(self) -> list[str]:
        if (self._folder / _INDEX).is_file():
            try:
                index = json.loads((self._folder / _INDEX).read_text(encoding="utf-8"))
                self._named = dict(index["weight_map"].items())
                shards = sorted(set(self._named.values()))
            except (ValueError, KeyError, AttributeError, TypeError) as error:
                raise ModelError(
                    f"'{self._folder / _INDEX}' is not a safetensors index", "download the model again", finding="broken_index"
                ) from error
            if missing := [shard for shard in shards if not (self._folder / shard).is_file()]:
                more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
                raise ModelError(
                    f"'{self._folder}' lacks the shard '{missing[0]}' that its index names{more}",
                    "download it again",
                    finding="missing_shard",
                )
            return shards
        if (self._folder / _SINGLE).is_file():
            return [_SINGLE]
        if any(path for pattern in _PICKLES for path in self._folder.glob(pattern)):
            raise ModelError(
                f"'{self._folder}' has only pickled weights (.bin, .pt), which can run code and are refused",
                "convert it to safetensors with save_pretrained",
                finding="pickles_only",
            )
        if (self._folder / "adapter_config.json").is_file():
            raise ModelError(
                f"'{self._folder}' is an adapter and no whole model",
                f"write {{adapter: {self._folder}, base: MODEL}}",
                finding="adapter_as_model",
            )
        raise ModelError(
            f"'{self._folder}' has no model.safetensors{_what_else(self._folder)}",
            "name a folder with config.json and *.safetensors",
            finding="no_weights",
        )

    def _open(self, shard: str) -> Any:
        path = self._folder / shard
        try:
            self._files[shard] = safe_open(str(path), framework="pt", device="cpu")
        except (SafetensorError, OSError) as error:
            if _begins_with(path, _LFS):
                raise ModelError(
                    f"'{path}' is a Git LFS pointer and not the weights", "run 'git lfs pull' there", finding="lfs_pointer"
                ) from error
            raise ModelError(
                f"'{path}' is truncated or corrupted ({error})", "download the model again", finding="truncated"
            ) from error
        return self._files[shard]
