"""Weights read lazily, tensor by tensor: safetensors (sharded or not), GGUF, and LoRA adapters on either. Never a pickle."""

import json
import warnings
from collections.abc import Mapping
from contextlib import redirect_stderr
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from evo_merge.errors import ModelError
from evo_merge.models.description import read_config
from evo_merge.models.reference import ModelFiles
from evo_merge.models.skeleton import empty_model

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_LFS = b"version https://git-lfs"
_PICKLES = ("*.bin", "*.bin.index.json", "*.pt", "*.pth", "*.ckpt")
# Names that safetensors headers give to dtypes.
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


class Weights(Protocol):
    """The tensors of one model. Shapes and dtypes are known without reading any."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every tensor, by full name."""

    @property
    def dtypes(self) -> Mapping[str, torch.dtype]:
        """Stored dtype of every tensor."""

    def read(self, name: str) -> Tensor:
        """One tensor on the CPU; for stored floats in their own dtype. It may be a view of the file: do not change it."""

    def forget(self) -> None:
        """Let go of what is held in memory only to be read from; it is made again where it is needed again."""


def open_weights(files: ModelFiles, opened: dict[ModelFiles, Weights] | None = None) -> Weights:
    """Open a model's weights; raises ``ModelError`` where there are none that can be trusted.

    Args:
        files: Where the model lies.
        opened: Models already open, added to: adapters on one base share it.
    """
    opened = {} if opened is None else opened
    plain = ModelFiles(files.folder, files.gguf, hub=files.hub)
    if plain not in opened:
        opened[plain] = _open_plain(plain)
    if files not in opened:
        opened[files] = AdaptedWeights(opened[plain], files)
    return opened[files]


def _open_plain(files: ModelFiles) -> Weights:
    if files.hub is not None:
        return HubHeaders(*files.hub)
    return SafetensorsWeights(files.folder) if files.gguf is None else GgufWeights(files.folder, files.gguf)


def unmergeable_kind(config: Mapping[str, Any]) -> str | None:
    """What an adapter is by its config, where that is no LoRA that can be added to its base, and what to do; else ``None``."""
    kind = config.get("peft_type", "unknown")
    if kind != "LORA":
        return f"is of type {getattr(kind, 'value', kind)}; LoRA adapters can be merged"
    if config.get("use_dora"):
        return "is of type DoRA; LoRA adapters can be merged"
    if config.get("bias", "none") != "none" or config.get("modules_to_save"):
        return "also changes biases or whole modules; merge it into its base first"
    return None


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


class GgufWeights:
    """A GGUF file, de-quantised to float32 by transformers; the whole model is held in memory."""

    def __init__(self, folder: Path, file: str) -> None:
        self._folder, self._file = folder, file

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every tensor, by full name."""
        return {name: tuple(tensor.shape) for name, tensor in self._tensors.items()}

    @property
    def dtypes(self) -> Mapping[str, torch.dtype]:
        """Always float32: what the blocks expand to."""
        return dict.fromkeys(self.shapes, torch.float32)

    def read(self, name: str) -> Tensor:
        """One de-quantised tensor."""
        return self._tensors[name]

    def forget(self) -> None:
        """Let go of the expanded blocks."""
        self.__dict__.pop("_tensors", None)

    @cached_property
    def _tensors(self) -> dict[str, Tensor]:
        from transformers import AutoModelForCausalLM, GgufConfig

        path = self._folder / self._file
        try:
            with redirect_stderr(StringIO()):  # a progress bar for each step, which nobody asked for
                model = AutoModelForCausalLM.from_pretrained(
                    self._folder,
                    gguf_file=self._file,
                    dtype=torch.float32,
                    quantization_config=GgufConfig(dequantize=True),
                    local_files_only=True,
                )
        except ImportError as error:
            raise ModelError(f"reading '{path}' needs the package 'gguf': pip install gguf") from error
        except Exception as error:  # of a header that is cut short each field fails in its own way
            raise ModelError(f"'{path}' cannot be read: {error}", finding="truncated") from error
        return {name: parameter.detach() for name, parameter in model.named_parameters()}


class AdaptedWeights:
    """A LoRA adapter on a model: each tensor is the model's plus the adapter's delta, formed when it is read."""

    def __init__(self, base: Weights, files: ModelFiles) -> None:
        assert files.adapter is not None
        self._base, self._files, self._folder = base, files, files.adapter

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """As the model's."""
        return self._base.shapes

    @property
    def dtypes(self) -> Mapping[str, torch.dtype]:
        """Float32 where the adapter adds something, else as the model's."""
        return {name: torch.float32 if name in self._layers else dtype for name, dtype in self._base.dtypes.items()}

    def read(self, name: str) -> Tensor:
        """The model's tensor plus the adapter's delta, summed in float32."""
        tensor = self._base.read(name)
        if name not in self._layers:
            return tensor
        with torch.no_grad():
            delta: Tensor = self._layers[name].get_delta_weight("default")
            return tensor.float() + delta.float()

    def forget(self) -> None:
        """Let go of the adapter, and of what the model holds."""
        self.__dict__.pop("_layers", None)
        self._base.forget()

    @cached_property
    def _layers(self) -> dict[str, Any]:
        """The LoRA layers by the name of the tensor each adds to."""
        from peft import PeftConfig, PeftModel

        try:
            config = PeftConfig.from_pretrained(str(self._folder))
        except (TypeError, ValueError, KeyError) as error:
            raise ModelError(f"the adapter '{self._folder}' has a config that peft cannot read: {error}") from error
        if kind := unmergeable_kind(config.to_dict()):
            raise ModelError(f"the adapter '{self._folder}' {kind}", finding="adapter_kind")
        try:
            with warnings.catch_warnings(action="ignore"):
                # What peft only warns of would leave the adapter without effect.
                warnings.filterwarnings("error", message="Found missing adapter keys")
                adapted = PeftModel.from_pretrained(
                    empty_model(read_config(ModelFiles(self._files.folder, self._files.gguf)), torch.float32),
                    str(self._folder),
                    config=config,
                )
        except (SafetensorError, RuntimeError, ValueError, UserWarning) as error:
            raise ModelError(f"the adapter '{self._folder}' does not fit its base '{self._files.folder}': {error}") from error
        modules = adapted.base_model.model.named_modules()
        layers = {f"{name}.weight": module for name, module in modules if hasattr(module, "get_delta_weight")}
        if lost := [name for name in layers if name not in self._base.shapes]:
            raise ModelError(
                f"the adapter '{self._folder}' changes '{lost[0]}', which its base '{self._files.folder}' does not store by "
                "itself (tied embeddings); merge it into its base first"
            )
        return layers
