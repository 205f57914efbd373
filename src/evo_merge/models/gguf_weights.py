"""Weights in a GGUF file, expanded from their quantised blocks."""

from collections.abc import Mapping
from contextlib import redirect_stderr
from functools import cached_property
from io import StringIO
from pathlib import Path

import torch
from torch import Tensor

from evo_merge.errors import ModelError


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
