"""Writing a merge as an ordinary checkpoint: shards, config, tokenizer, generation config, and the recipe inside."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from evo_merge import __version__
from evo_merge.errors import ModelError
from evo_merge.interchange.to_mergekit import InexpressibleError, mergekit_yaml
from evo_merge.models.building import Built, built, path_models
from evo_merge.models.identity import weights_told
from evo_merge.models.partial import PartialFolder, already_written, n_whole_of, partial_folder, place_for
from evo_merge.models.pool import Pool
from evo_merge.models.reference import absolute_recipe
from evo_merge.models.residency import gigabytes
from evo_merge.models.shard import Shard, write_tensor
from evo_merge.models.streaming import in_order
from evo_merge.recipe import DataFlowRecipe, Recipe, to_yaml

log = logging.getLogger(__name__)
SHARD_BYTES = 5_000_000_000  # what the hub recommends
MARK_BYTES = 256_000_000  # after how many it is made sure that they are on the disk, so that no more are written again
_OF_THIS_MACHINE = ("is_local", "local_files_only")  # how the tokenizer was read here, which transformers would save
_RESERVE = 50_000_000  # for config, tokenizer and the file system's own needs


def write_checkpoint(
    recipe: Recipe,
    pool: Pool,
    folder: Path,
    *,
    allowed_code: tuple[str, ...] = (),
    told: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write the recipe's model to a folder, which appears only when it is complete.

    Tensor by tensor (``evo_merge.models.streaming``), none of which is kept. The same recipe gives the same bytes. What was
    interrupted is gone on with (``evo_merge.models.partial``).

    Args:
        recipe: What to write.
        pool: The recipe's models.
        folder: To be written; it may be there if it is empty.
        allowed_code: Dotted names of methods from elsewhere that may run.
        told: Hears how many bytes of all tensors are written, before the first and after each.

    Raises:
        ModelError: The folder holds something or cannot be made, there is not enough room, or another process is writing it.
        RecipeError: The recipe does not fit the pool.
        IncompatibleModelsError: The pool's models do not fit each other.
        UnusableCandidateError: The merged weights are not finite.
    """
    folder = place_for(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    model = built(recipe, pool, allowed_code)
    shards = _shards(recipe, model)
    needed, free = model.n_bytes + _RESERVE, shutil.disk_usage(folder.parent).free + already_written(folder)
    if needed > free:
        raise ModelError(f"writing the model to '{folder}' needs {gigabytes(needed)}, and {gigabytes(free)} are free")
    with partial_folder(folder, _identity(recipe, pool, shards, allowed_code), shards) as partial:
        _write_weights(model, shards, partial, told)
        found_here = absolute_recipe(recipe)  # the files are read in other folders than this one
        (partial.path / "recipe.yaml").write_text(to_yaml(found_here), encoding="utf-8")
        _write_mergekit_yaml(found_here, model, partial.path)
        # A path's tokenizer is its first model's, whatever else the pool holds.
        describing = Pool.of_recipe(recipe) if isinstance(recipe, DataFlowRecipe) else pool
        _write_description(recipe, model.config, describing, partial.path)


def _write_weights(model: Built, shards: Sequence[Shard], partial: PartialFolder, told: Callable[[int, int], None]) -> None:
    names = [name for shard in shards for name in shard.names]
    done, unmarked = partial.done, 0
    written, total = sum(map(model.tensor_bytes, names[:done])), model.n_bytes
    told(written, total)
    if done < len(names):
        # What models load when they are first asked for a tensor is loaded once, and not by each thread.
        model.read(min(names, key=model.tensor_bytes))
    with closing(in_order(names[done:], model.read, model.working_bytes)) as tensors:
        for shard, n_whole in list(n_whole_of(shards, done)):
            if n_whole == len(shard.names) and n_whole:
                continue
            with partial.opened(shard, n_whole) as file:
                for _ in shard.names[n_whole:]:
                    name, tensor = next(tensors)
                    write_tensor(file, shard, name, tensor)
                    done, unmarked, written = done + 1, unmarked + tensor.nbytes, written + tensor.nbytes
                    told(written, total)
                    if unmarked >= MARK_BYTES:
                        partial.mark(done, file)
                        unmarked = 0
            partial.mark(done)
    if len(shards) > 1:
        weight_map = {name: shard.file for shard in shards for name in shard.names}
        index = {
            "metadata": {"total_size": model.n_bytes},
            "weight_map": dict(sorted(weight_map.items())),
        }
        (partial.path / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _identity(recipe: Recipe, pool: Pool, shards: Sequence[Shard], allowed_code: tuple[str, ...]) -> str:
    """One line that is the same where every byte of the weights would be."""
    models = path_models(recipe, pool, allowed_code).values() if isinstance(recipe, DataFlowRecipe) else ()
    parts = [f"evo-merge {__version__}", f"torch {torch.__version__}"]
    parts += weights_told(recipe, (*pool.models, *pool.givers, *models), allowed_code)
    digest = hashlib.sha256("\n".join(parts).encode())
    for shard in shards:
        digest.update(shard.file.encode() + shard.header)  # the recipe is in it
    return f"build {digest.hexdigest()}"


def _shards(recipe: Recipe, model: Built) -> list[Shard]:
    filled: list[list[str]] = [[]]
    size = 0
    for name in sorted(model.shapes):
        if filled[-1] and size + model.tensor_bytes(name) > SHARD_BYTES:
            filled.append([])
            size = 0
        filled[-1].append(name)
        size += model.tensor_bytes(name)
    # transformers asks for "format"; the recipe travels with the weights.
    metadata = {"format": "pt", "recipe": to_yaml(recipe)}
    n = len(filled)
    return [
        Shard(
            "model.safetensors" if n == 1 else f"model-{i:05d}-of-{n:05d}.safetensors",
            {name: model.shapes[name] for name in names},
            {name: model.dtypes[name] for name in names},
            metadata,
        )
        for i, names in enumerate(filled, start=1)
    ]


def _write_mergekit_yaml(recipe: Recipe, model: Built, folder: Path) -> None:
    try:
        (folder / "mergekit.yaml").write_text(mergekit_yaml(recipe, list(model.shapes)), encoding="utf-8")
    except InexpressibleError as reason:
        log.info("no mergekit.yaml is written: %s", reason)


def _write_description(recipe: Recipe, described: Any, pool: Pool, folder: Path) -> None:
    config = type(described).from_dict(described.to_dict())
    config.architectures = described.architectures or [_architecture(described)]
    config.dtype = recipe.out_dtype
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # the weights are plain now
    pool.generation_config.save_pretrained(folder)
    if any(model.tokenizer is not None for model in pool.models):
        pool.tokenizer.save_pretrained(folder)
        path = folder / "tokenizer_config.json"
        settings = json.loads(path.read_text(encoding="utf-8"))
        kept = {key: value for key, value in settings.items() if key not in _OF_THIS_MACHINE}
        path.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    config.save_pretrained(folder)  # last: without it nobody takes a folder for a model


def _architecture(config: Any) -> str:
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return type(AutoModelForCausalLM.from_config(config)).__name__
