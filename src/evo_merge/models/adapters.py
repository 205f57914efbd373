"""What a LoRA adapter (Hu et al. 2021, https://arxiv.org/abs/2106.09685) does to its base's tensors, read by ``peft``.

Peft says which tensors an adapter's matrices belong to, with what rank and scale; what it holds beside the matrices (a model of
the base's size) is let go at once.
"""

import warnings
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from evo_merge.errors import ModelError
from evo_merge.models.layer_path import EMBEDDING, HEAD
from evo_merge.models.skeleton import empty_model

ADAPTER_FILE = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
_UNTIE = "save the base with tie_word_embeddings=false and a head of its own, and put it on that"
# Starts that also change the base, so that the adapter belongs to a base that lies in no file.
_CHANGING_STARTS = ("pissa", "olora", "corda", "loftq", "lora_ga", "mica")
# Settings under which the matrices do not add to the weights once and for all, or add to something else.
_MORE_THAN_LORA = {
    "alora_invocation_tokens": "works on some tokens only (aLoRA)",
    "arrow_config": "chooses among adapters for every token (Arrow)",
    "kasa_config": "is of the variant KaSA",
    "layer_replication": "repeats layers of its base",
    "megatron_config": "is made for Megatron",
    "monteclora_config": "is of the variant MonteCLoRA",
    "target_parameters": "changes parameters that are no layers' weights (target_parameters)",
    "trainable_token_indices": "also changes single tokens' embeddings",
    "use_bdlora": "is of the variant BD-LoRA",
    "use_qalora": "is made for quantised weights (QA-LoRA)",
    "velora_config": "is of the variant VeLoRA",
}


@dataclass(frozen=True)
class LowRank:
    """A change of one tensor by two matrices.

    Attributes:
        a: ``(rank, in)`` float32, as the file has it; of embeddings ``(rank, tokens)``.
        b: ``(out, rank)`` float32.
        scale: What their product is multiplied by: alpha over the rank, or over its square root (rsLoRA).
        flipped: The tensor is the product's transpose, as in embeddings, and in the ``Conv1D`` layers of GPT-2.
        embedding: The tensor is an embedding, whose matrices have other names in files.
        magnitude: Of DoRA ``(out,)``: the norms that the changed tensor's outputs get (m in its equation 5); else ``None``.
    """

    a: Tensor
    b: Tensor
    scale: float
    flipped: bool = False
    embedding: bool = False
    magnitude: Tensor | None = None

    @property
    def rank(self) -> int:
        """Rows of ``a``."""
        return len(self.a)

    @property
    def left(self) -> Tensor:
        """``(rows of the tensor, rank)``; the tensor changes by ``scale * left @ right``."""
        return self.a.T if self.flipped else self.b

    @property
    def right(self) -> Tensor:
        """``(rank, columns of the tensor)``."""
        return self.b.T if self.flipped else self.a

    def added_to(self, tensor: Tensor) -> Tensor:
        """The changed tensor, in float32.

        With DoRA (Liu et al. 2024, https://arxiv.org/abs/2402.09353) each output's weights are then brought to their norm in
        ``magnitude``.
        """
        product = self.b @ self.a
        changed: Tensor = (product.T if self.flipped else product).mul_(self.scale).add_(tensor.float())
        if self.magnitude is None:
            return changed
        norm = torch.linalg.vector_norm(changed, dim=0 if self.flipped else 1, keepdim=True)
        return changed.mul_(self.magnitude.view_as(norm) / norm)


@dataclass(frozen=True)
class Adapter:
    """Everything that an adapter changes, by the full names of its base's tensors.

    Attributes:
        low_rank: Weights that get a product of two matrices.
        biases: What is added to biases (``lora_bias``), float32.
        replaced: Tensors that the adapter has whole, float32: ``modules_to_save``, trained biases, and embeddings that it adds
            to, which peft saves as well.
    """

    low_rank: Mapping[str, LowRank]
    biases: Mapping[str, Tensor]
    replaced: Mapping[str, Tensor]

    @property
    def names(self) -> set[str]:
        """Of all tensors that it changes."""
        return {*self.low_rank, *self.biases, *self.replaced}

    def applied(self, name: str, tensor: Tensor) -> Tensor:
        """The base's tensor of that name as the adapter changes it, in float32; as it is where it does not."""
        tensor = self.replaced.get(name, tensor)
        if name in self.biases:
            return tensor.float() + self.biases[name]
        return self.low_rank[name].added_to(tensor) if name in self.low_rank else tensor


def unmergeable_kind(config: Mapping[str, Any]) -> str | None:
    """What an adapter is by its config, where it cannot be merged into its base's weights, and what to do; else ``None``."""
    kind = config.get("peft_type", "unknown")
    if kind != "LORA":
        return f"is of type {getattr(kind, 'value', kind)}; LoRA and DoRA adapters can be merged"
    for key, meaning in _MORE_THAN_LORA.items():
        if config.get(key):
            return f"{meaning}; merge it into its base with peft first, where peft can"
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_CHANGING_STARTS):
        return (
            f"was started with init_lora_weights={start}, which also changes its base; save it again with peft's "
            "save_pretrained(path_initial_model_for_weight_conversion=…)"
        )
    return None


@dataclass(frozen=True)
class ChangedNames:
    """The tensors of its base that an adapter changes, by the names in its file.

    Attributes:
        added: Those to which it adds.
        replaced: Those which it has whole; of embeddings that it adds to, peft also saves what it adds to.
    """

    added: frozenset[str]
    replaced: Mapping[str, str]  # name in the base: name in the file

    @classmethod
    def of(cls, keys: Iterable[str]) -> "ChangedNames":
        """From the names in ``adapter_model.safetensors``."""
        added: set[str] = set()
        replaced: dict[str, str] = {}
        for key in keys:
            module, found, part = key.removeprefix("base_model.model.").partition(".lora_")
            if found:  # lora_A.weight, lora_embedding_B, lora_magnitude_vector, and of lora_bias lora_B.bias
                added.add(f"{module}.{'bias' if part.endswith('.bias') else 'weight'}")
            else:
                replaced[module.replace(".base_layer.", ".")] = key
        return cls(frozenset(added), replaced)

    def misfit(self, config: Mapping[str, Any], stored: Collection[str], *, tied: bool) -> str | None:
        """What the adapter changes that its base cannot take, and what to do; else ``None``.

        Args:
            config: The adapter's.
            stored: The base's tensors.
            tied: The base's embeddings are also its head.
        """
        alike = bool(config.get("ensure_weight_tying"))  # trained as one: the head's part is the embeddings' again
        for name in (*sorted(self.added), *self.replaced):
            if name == HEAD and tied and alike and name not in self.added:
                continue
            if name not in stored and name.endswith(".bias"):
                return f"changes '{name}', which its base does not have; train it without lora_bias, or put it on its own base"
            if name not in stored and tied:
                return f"changes '{name}', which its base does not store by itself (tied embeddings); {_UNTIE}"
            if name == EMBEDDING and name not in self.added and tied and not alike:
                return f"replaces '{name}', which is also the head of its base (tied embeddings); {_UNTIE}"
        return None


def read_adapter(folder: Path, base_config: Any, stored: Collection[str], base: str) -> Adapter:
    """Everything that an adapter changes.

    Args:
        folder: With ``adapter_config.json`` and ``adapter_model.safetensors``.
        base_config: The transformers config of the model it is put on.
        stored: Names of that model's tensors.
        base: What to call that model.

    Raises:
        ModelError: The adapter cannot be read, does not fit its base, or cannot be merged into its weights.
    """
    from peft import PeftConfig, PeftModel

    try:
        config = PeftConfig.from_pretrained(str(folder))
    except (TypeError, ValueError, KeyError, ImportError) as error:
        raise ModelError(f"the adapter '{folder}' has a config that peft cannot read: {error}") from error
    if kind := unmergeable_kind(config.to_dict()):
        raise ModelError(f"the adapter '{folder}' {kind}", finding="adapter_kind")
    config.init_lora_weights = False  # the numbers that layers start from are overwritten
    tied = bool(getattr(base_config, "tie_word_embeddings", False))
    try:
        with safe_open(str(folder / ADAPTER_FILE), framework="pt", device="cpu") as file:
            names = ChangedNames.of(file.keys())
            if misfit := names.misfit(config.to_dict(), stored, tied=tied):
                raise ModelError(f"the adapter '{folder}' {misfit}", finding="adapter_targets")
            whole = {name: file.get_tensor(key).float() for name, key in names.replaced.items() if name in stored}
        with warnings.catch_warnings(action="ignore"):
            # What peft only warns of would leave the adapter without effect.
            warnings.filterwarnings("error", message="Found missing adapter keys")
            adapted = PeftModel.from_pretrained(empty_model(base_config, torch.float32), str(folder), config=config)
    except (SafetensorError, RuntimeError, ValueError, UserWarning) as error:
        raise ModelError(f"the adapter '{folder}' does not fit its base '{base}': {error}") from error
    adapter = _taken_off(adapted.base_model.model, whole, folder)
    if lost := sorted(name for name in adapter.names if name not in stored):
        raise ModelError(
            f"the adapter '{folder}' changes '{lost[0]}', which its base '{base}' does not have", finding="adapter_targets"
        )
    return adapter


def _taken_off(model: Any, replaced: Mapping[str, Tensor], folder: Path) -> Adapter:
    """What peft has put on a model, taken off it again."""
    from peft.tuners.lora import LoraLayer

    low_rank: dict[str, LowRank] = {}
    biases: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            low_rank[f"{name}.weight"] = _low_rank(module, name, folder)
            if module.lora_bias["default"]:
                biases[f"{name}.bias"] = module.lora_B["default"].bias.detach() * module.scaling["default"]
    return Adapter(low_rank, biases, replaced)


def _low_rank(layer: Any, name: str, folder: Path) -> LowRank:
    from peft.tuners.lora import Embedding, Linear

    dora = layer.lora_magnitude_vector["default"].weight.detach() if layer.lora_magnitude_vector else None
    scale = float(layer.scaling["default"])
    if isinstance(layer, Embedding):
        a, b = layer.lora_embedding_A["default"].detach(), layer.lora_embedding_B["default"].detach()
        return LowRank(a.float(), b.float(), scale, flipped=True, embedding=True, magnitude=dora)
    if not isinstance(layer, Linear):
        raise ModelError(
            f"the adapter '{folder}' changes '{name}', a layer of type {type(layer).__name__}; "
            "adapters on linear layers and embeddings can be merged",
            finding="adapter_kind",
        )
    a, b = layer.lora_A["default"].weight.detach(), layer.lora_B["default"].weight.detach()
    return LowRank(a.float(), b.float(), scale, flipped=layer.fan_in_fan_out, magnitude=dora)
