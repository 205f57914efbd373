"""Layer paths: what a data-flow recipe makes of its models' configs and tensors.

A path becomes an ordinary checkpoint with one layer a hop, because its scales fold into the weights. A pre-norm block adds
to the residual stream what it computes from the normalised stream, and an RMS norm does not see the stream's scale but for
its sign (and its epsilon, which is small). So where the stream is multiplied by s_k before hop k (``residual``), with
c_k = s_0 s_1 ... s_k, the same logits come from a stream that is not multiplied at all: what hop k adds is divided by c_k
(``o_proj``, ``down_proj`` and their biases), and where c_k is negative the weights of its norms change their sign, the final
norm with the last hop. Where only what the MLP of the hop before added is multiplied (``branch``), s_k goes into that hop's
``down_proj``, at hop 0 into the embedding.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import mul
from typing import Any

from evo_merge.errors import RecipeError
from evo_merge.recipe import DataFlowRecipe, Step

# Pre-norm architectures with RMS norms whose weight is a factor and with the tensor names below.
FOLDABLE = ("llama", "mistral", "qwen2", "qwen3", "smollm3")
EMBEDDING, HEAD, FINAL_NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"
_LAYER = re.compile(r"^(?P<stem>(?:\w+\.)*?\w+\.)(?P<number>\d+)\.(?P<rest>.+)$")
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight")  # of tokens, in files
_ATTENTION_OUT, _MLP_OUT = "self_attn.o_proj.", "mlp.down_proj."
_LARGEST = {"float32": 3.4028e38, "bfloat16": 3.3895e38, "float16": 65504.0}  # numbers of each dtype
_SMALLEST_FACTOR = 1e-30  # a weight that is multiplied by less is gone
_NORMS = ("input_layernorm.weight", "post_attention_layernorm.weight")


@dataclass(frozen=True, slots=True)
class Piece:
    """A tensor of the path's model: a tensor of one of the recipe's models, times a factor."""

    model: str
    tensor: str
    factor: float = 1.0


def check_path(recipe: DataFlowRecipe, configs: Mapping[str, Any]) -> None:
    """Refuse paths through layers that are not there, or scales in architectures whose fold is not known.

    Args:
        recipe: Names the layers.
        configs: The transformers config of each of the recipe's models.

    Raises:
        RecipeError: Names the hop, or the architecture.
    """
    if any(step.scale != 1.0 for step in recipe.path):
        refuse_unfoldable(recipe, configs)
    for number, step in enumerate(recipe.path):
        n_layers = configs[step.model].num_hidden_layers
        if step.layer >= n_layers:
            raise RecipeError(
                f"hop {number} of the path names layer {step.layer} of '{step.model}', which has layers 0 to {n_layers - 1}"
            )


def refuse_unfoldable(recipe: DataFlowRecipe, configs: Mapping[str, Any]) -> None:
    """Refuse architectures in which a path can neither be scaled nor run without copying layers; raises ``RecipeError``."""
    for source in recipe.models:
        kind = getattr(configs[source.name], "model_type", "unknown")
        if kind not in FOLDABLE:
            raise RecipeError(
                f"'{source.name}' is of the architecture '{kind}', and how the scales of a path fold into its weights is not "
                f"known; layer paths run through {', '.join(FOLDABLE)}"
            )


def check_scales(recipe: DataFlowRecipe) -> None:
    """Refuse scales that multiply so far along the path that no weight can hold them; raises ``RecipeError``."""
    for hop, product in enumerate(running_products(recipe.path)):
        if recipe.scale_target == "residual" and not _SMALLEST_FACTOR < abs(product) < 1 / _SMALLEST_FACTOR:
            raise RecipeError(f"the scales up to hop {hop} of the path multiply to {product:g}, which no weight can hold")


def too_far(recipe: DataFlowRecipe, largest: Callable[[str, int], tuple[float, float]]) -> str | None:
    """Why the scales cannot be folded into weights of the recipe's ``out_dtype``; ``None`` where they can.

    Args:
        recipe: The path.
        largest: For a model and a layer the largest size of a weight by which its attention and its MLP add to the stream.
    """
    limit = _LARGEST[recipe.out_dtype]
    for hop, (step, factors) in enumerate(zip(recipe.path, output_factors(recipe), strict=True)):
        sizes = zip(factors, largest(step.model, step.layer), strict=False)
        if not all(abs(factor) * size < limit and abs(factor) > _SMALLEST_FACTOR for factor, size in sizes):
            return f"the scales of the path multiply too far: at hop {hop} no weight in {recipe.out_dtype} can hold them"
    return None


def path_config(recipe: DataFlowRecipe, configs: Mapping[str, Any]) -> Any:
    """The transformers config of the path's model: the first model's, with one layer a hop.

    Lists with an entry a layer (``layer_types``, ``no_rope_layers``) follow the path.
    """
    first = configs[recipe.models[0].name]
    record = first.to_dict()
    for key, value in record.items():
        if _is_per_layer(key, value, first.num_hidden_layers):
            record[key] = [_entry(configs[step.model], key, step, value) for step in recipe.path]
    record["num_hidden_layers"] = len(recipe.path)
    if embeds_twice(recipe, configs):
        record["tie_word_embeddings"] = False
    config = type(first).from_dict(record)
    # What the config is not asked to save: how attention is computed.
    config._attn_implementation = first._attn_implementation
    return config


def running_products(path: Sequence[Step]) -> list[float]:
    """c_k, the product of the scales up to hop k."""
    return list(accumulate((step.scale for step in path), mul))


def output_factors(recipe: DataFlowRecipe) -> list[tuple[float, float, float]]:
    """For each hop the factors of what its attention adds to the stream, of what its MLP adds, and of its norms."""
    if recipe.scale_target == "residual":
        return [(_inverse(c), _inverse(c), math.copysign(1.0, c)) for c in running_products(recipe.path)]
    following = [*(step.scale for step in recipe.path[1:]), 1.0]
    return [(1.0, scale, 1.0) for scale in following]


def final_norm_factor(recipe: DataFlowRecipe) -> float:
    """The sign of the stream at the end of the path."""
    return math.copysign(1.0, running_products(recipe.path)[-1]) if recipe.scale_target == "residual" else 1.0


def embedding_factor(recipe: DataFlowRecipe) -> float:
    """What the embeddings are multiplied by."""
    return recipe.path[0].scale if recipe.scale_target == "branch" else 1.0


def pieces(recipe: DataFlowRecipe, configs: Mapping[str, Any], tensors: Mapping[str, Sequence[str]]) -> dict[str, Piece]:
    """Every tensor of the path's checkpoint by its name, and what it is made of.

    Args:
        recipe: The path.
        configs: The transformers config of each of the recipe's models.
        tensors: Names of the tensors of each of the recipe's models.
    """
    first, last = recipe.models[0].name, head_of(recipe)
    factors_outside = {EMBEDDING: embedding_factor(recipe), FINAL_NORM: final_norm_factor(recipe)}
    made = {
        name: Piece(model, name, factors_outside.get(name, 1.0))
        for model, is_first_end in ((first, True), (last, False))
        for name in tensors[model]
        if name != HEAD and not _LAYER.match(name) and is_before_layers(name) == is_first_end
    }
    if embeds_twice(recipe, configs):
        tied = [_ties(configs[model]) for model in (first, last)]
        if not tied[1]:
            made |= {name: Piece(last, name) for name in tensors[last] if name == HEAD}
        else:
            model = first if tied[0] else last
            made[HEAD] = Piece(model, next(name for name in tensors[model] if name.endswith(_EMBEDDINGS)))
    layers = {source.name: _by_layer(tensors[source.name]) for source in recipe.models}
    for hop, (step, factors) in enumerate(zip(recipe.path, output_factors(recipe), strict=True)):
        for name, stem, rest in layers[step.model][step.layer]:
            made[f"{stem}{hop}.{rest}"] = Piece(step.model, name, _factor(rest, *factors))
    return made


def head_of(recipe: DataFlowRecipe) -> str:
    """Name of the model that gives the final norm and the head."""
    return recipe.head or recipe.models[0].name


def embeds_twice(recipe: DataFlowRecipe, configs: Mapping[str, Any]) -> bool:
    """Whether the head is a tensor of its own.

    It is where a model at one end has one, and where embeddings that are also the head part, since they alone are scaled.
    """
    ends = (configs[recipe.models[0].name], configs[head_of(recipe)])
    return not all(_ties(config) for config in ends) or embedding_factor(recipe) != 1.0


def runs(path: Sequence[Step]) -> Iterator[tuple[str, int, int]]:
    """The path as stretches of consecutive layers of one model: (model, first layer, last layer)."""
    start = 0
    for i in range(1, len(path) + 1):
        follows = i < len(path) and path[i].model == path[i - 1].model and path[i].layer == path[i - 1].layer + 1
        if not follows:
            yield path[start].model, path[start].layer, path[i - 1].layer
            start = i


def _inverse(product: float) -> float:
    """1 / c, also where so many scales multiply to 0 or to infinity that there is none."""
    return math.inf if product == 0 else 1 / product


def _factor(rest: str, attention: float, mlp: float, norm: float) -> float:
    if rest.startswith(_ATTENTION_OUT):
        return attention
    if rest.startswith(_MLP_OUT):
        return mlp
    return norm if rest in _NORMS else 1.0


def _ties(config: Any) -> bool:
    return bool(getattr(config, "tie_word_embeddings", False))


def is_before_layers(name: str) -> bool:
    """Whether a tensor outside the layers comes before them: embeddings, of places too, but not a head that is called one."""
    return ("embed" in name and not name.startswith("embed_out.")) or name.endswith((".wte.weight", ".wpe.weight"))


def _by_layer(names: Sequence[str]) -> dict[int, list[tuple[str, str, str]]]:
    """For each layer the names of its tensors, with what comes before and after the layer's number."""
    layers: dict[int, list[tuple[str, str, str]]] = {}
    for name in names:
        if match := _LAYER.match(name):
            layers.setdefault(int(match["number"]), []).append((name, match["stem"], match["rest"]))
    return layers


def _is_per_layer(key: str, value: object, n_layers: int) -> bool:
    return isinstance(value, list) and len(value) == n_layers and "layer" in key


def _entry(config: Any, key: str, step: Step, default: Sequence[Any]) -> Any:
    entries = getattr(config, key, None)
    return entries[step.layer] if entries is not None and len(entries) == config.num_hidden_layers else default[0]
