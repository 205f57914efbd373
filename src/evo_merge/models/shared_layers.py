"""Running layer paths without copying a layer: each model is on the device once, and every hop is a view of one of its layers.

A view shares the parameters of its layer and has what differs between two passes through it: the slot of the key-value cache
(``layer_idx``), so that a layer used twice keeps two pasts, and the scale. The result is a transformers model like any other.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from evo_merge.errors import UnusableCandidateError
from evo_merge.models.layer_path import embedding_factor, head_of, path_config, pieces, too_far
from evo_merge.models.model import Model
from evo_merge.models.residency import free_bytes
from evo_merge.models.skeleton import filled_model
from evo_merge.recipe import DataFlowRecipe, ModelReference, Step

_SLIDING = "sliding_attention"


class SharedLayers:
    """The models whose layers paths run through.

    Args:
        open_model: Finds a model that a recipe names.
        device: Where the models sit.
    """

    def __init__(self, open_model: Callable[[str, ModelReference], Model], device: torch.device) -> None:
        self._open_model, self._device = open_model, device
        self._modules: dict[tuple[ModelReference, str], nn.Module] = {}
        self._sizes: WeakKeyDictionary[nn.Module, tuple[float, float]] = WeakKeyDictionary()

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights that are resident, each counted once."""
        tensors = {p.untyped_storage().data_ptr(): p for module in self._modules.values() for p in module.parameters()}
        return sum(tensor.untyped_storage().nbytes() for tensor in tensors.values())

    def model(self, recipe: DataFlowRecipe) -> Any:
        """A causal language model that runs the recipe's path; nothing of it is new but its modules' shells.

        Raises:
            ModelError: A model of the recipe cannot be read.
            UnusableCandidateError: Its scales cannot be folded into weights, so that it could be run but never be written.
        """
        modules: dict[str, Any] = {}
        for source in recipe.models:
            modules[source.name] = self._module(source.name, source.reference, recipe)
        if (reason := too_far(recipe, lambda name, layer: self._largest(modules[name].model.layers[layer]))) is not None:
            raise UnusableCandidateError(reason)
        first = modules[recipe.models[0].name]
        config = path_config(recipe, {name: module.config for name, module in modules.items()})
        trunk, view = _shell(first.model), _shell(first)
        view.config = trunk.config = config
        if hasattr(trunk, "has_sliding_layers"):
            trunk.has_sliding_layers = _SLIDING in (config.layer_types or ())
        scales = [step.scale for step in recipe.path]
        following = [*scales[1:], 1.0]
        trunk._modules["layers"] = nn.ModuleList(
            [
                _hop(modules[step.model].model.layers[step.layer], number, step, following[number], recipe.scale_target, config)
                for number, step in enumerate(recipe.path)
            ]
        )
        last = modules[head_of(recipe)]
        trunk._modules["norm"] = last.model.norm
        if not (first.config.tie_word_embeddings and last.config.tie_word_embeddings):
            view._modules["lm_head"] = last.lm_head
        if embedding_factor(recipe) != 1.0:
            trunk._modules["embed_tokens"] = _Scaled(trunk.embed_tokens, embedding_factor(recipe))
        view._modules["model"] = trunk
        return view

    def folded(self, recipe: DataFlowRecipe) -> Iterator[tuple[str, Tensor]]:
        """The tensors of the path's checkpoint, with its scales folded into them; those without a scale are the layers' own."""
        modules = {source.name: self._module(source.name, source.reference, recipe) for source in recipe.models}
        weights = {name: dict(module.named_parameters(remove_duplicate=False)) for name, module in modules.items()}
        made = pieces(recipe, {name: each.config for name, each in modules.items()}, {n: list(w) for n, w in weights.items()})
        for name, piece in made.items():
            tensor = weights[piece.model][piece.tensor]
            yield name, tensor if piece.factor == 1.0 else (tensor.float() * piece.factor).to(tensor.dtype)

    def _module(self, name: str, reference: ModelReference, recipe: DataFlowRecipe) -> Any:
        key = (reference, recipe.out_dtype)
        if key not in self._modules:
            model = self._open_model(name, reference)
            self._make_room(model, recipe)
            self._modules[key] = filled_model(model, getattr(torch, recipe.out_dtype), self._device)
        return self._modules[key]

    def _largest(self, layer: Any) -> tuple[float, float]:
        if layer not in self._sizes:
            attention, mlp = layer.self_attn.o_proj.weight, layer.mlp.down_proj.weight
            self._sizes[layer] = (float(attention.abs().max()), float(mlp.abs().max()))
        return self._sizes[layer]

    def _make_room(self, model: Model, recipe: DataFlowRecipe) -> None:
        """Let models go that the recipe does not use, where the next one would not fit beside them."""
        width = getattr(torch, recipe.out_dtype).itemsize
        needed = width * sum(torch.Size(shape).numel() for shape in model.shapes.values())
        if needed > free_bytes(self._device) // 2:
            used = {source.reference for source in recipe.models}
            self._modules = {key: module for key, module in self._modules.items() if key[0] in used}


class _Scaled(nn.Module):
    """A module whose output is multiplied."""

    def __init__(self, module: nn.Module, factor: float) -> None:
        super().__init__()
        self.module, self.factor = module, factor

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        output: Tensor = self.module(*args, **kwargs)
        return output * self.factor


class _ScaledInput(nn.Module):
    """A layer whose input is multiplied."""

    def __init__(self, layer: nn.Module, factor: float) -> None:
        super().__init__()
        self.layer, self.factor = layer, factor
        # Some architectures choose a layer's mask by it.
        self.attention_type = getattr(layer, "attention_type", "full_attention")

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        return self.layer(hidden_states * self.factor, *args, **kwargs)


def _hop(layer: Any, slot: int, step: Step, following: float, scale_target: str, config: Any) -> nn.Module:
    """A view of a layer with a cache slot and a scale of its own; ``following`` is the scale of the next hop."""
    hop: nn.Module
    hop, attention = _shell(layer), _shell(layer.self_attn)
    attention.layer_idx, attention.config = slot, config
    hop._modules["self_attn"] = attention
    if scale_target == "branch":
        if following != 1.0:
            hop._modules["mlp"] = _Scaled(layer.mlp, following)
        return hop
    return hop if step.scale == 1.0 else _ScaledInput(hop, step.scale)


def _shell(module: Any) -> Any:
    """A copy of a module that shares everything with it, but whose children may be exchanged."""
    shell = copy.copy(module)
    shell._modules = dict(module._modules)
    return shell
