"""Statistics read while merging: of each source the tensor that belongs to a weight, checked against the models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from evo_merge.calibration.record import GRAM, SourceRecord, check_statistics, folder_of, kind_of, read_record
from evo_merge.errors import RecipeError
from evo_merge.fingerprints import digest_of_file, is_same
from evo_merge.models.aligned import AlignedModel
from evo_merge.recipe import recipe_hash

if TYPE_CHECKING:
    from torch import Tensor

    from evo_merge.methods.base import MergeMethod
    from evo_merge.models.model import Model


def identity(model: Model) -> str:
    """Tells a model's weights from others': the fingerprint of its files, of a recipe's model with that of the recipe.

    Of a model whose rows are matched by token it also says which row is which token's, as statistics are in that order.
    """
    recipe = model.reference.recipe
    told = model.fingerprint if recipe is None else f"{recipe_hash(recipe)} {model.fingerprint}"
    return f"{told} rows {model.rows_digest}" if isinstance(model, AlignedModel) else told


class SourceStatistics:
    """The statistics that a method merges with.

    Args:
        method: Names them.
        models: The sources, by the names under which their statistics were gathered.

    Raises:
        RecipeError: They are missing, of another kind, damaged, or of other models.
    """

    def __init__(self, method: MergeMethod, models: Mapping[str, Model]) -> None:
        check_statistics(method, list(models))
        self._folder, self._kind = folder_of(method), kind_of(method)
        record = read_record(self._folder)
        self._handles = {name: self._open(name, record.sources[name], model) for name, model in models.items()}

    def read(self, name: str) -> tuple[Tensor, ...] | None:
        """Each source's statistics of a tensor, on the CPU; ``None`` where none has any, as of Gram matrices many have none.

        Raises:
            RecipeError: Some sources have them and others have not.
        """
        found = [handles[name].get_tensor(name) if name in handles else None for handles in self._handles.values()]
        there = tuple(tensor for tensor in found if tensor is not None)
        if len(there) == len(found):
            return there
        if there or self._kind != GRAM:
            lacking = next(source for source, handles in self._handles.items() if name not in handles)
            raise RecipeError(
                f"the statistics in '{self._folder}' lack '{name}' of '{lacking}'; gather them again for all sources at once"
            )
        return None

    def _open(self, source: str, record: SourceRecord, model: Model) -> dict[str, Any]:
        """The file of every tensor, after checking that files and model are those of the record."""
        if not is_same(record.fingerprint, identity(model)):
            raise RecipeError(
                f"the statistics in '{self._folder}' of '{source}' were gathered on '{record.model}', whose weights or rows "
                f"are not those of '{model.reference}'; gather them again"
            )
        handles: dict[str, Any] = {}
        for file, digest in record.files.items():
            path = self._folder / file
            if not path.is_file() or digest_of_file(path) != digest:
                raise RecipeError(f"'{path}' is missing or not the file that was written; gather the statistics again")
            handles |= _tensors_of(path)
        for name, handle in handles.items():
            self._check_shape(source, name, tuple(handle.get_slice(name).get_shape()), model.shapes.get(name))
        return handles

    def _check_shape(self, source: str, name: str, found: Sequence[int], weight: Sequence[int] | None) -> None:
        wanted = None if weight is None else (weight[-1], weight[-1]) if self._kind == GRAM else tuple(weight)
        if found != wanted:
            raise RecipeError(
                f"the statistics in '{self._folder}' of '{source}' have shape {tuple(found)} for '{name}', which must be "
                f"{wanted or 'a tensor of the model'}; gather them again"
            )


def _tensors_of(path: Path) -> dict[str, Any]:
    try:
        handle = safe_open(str(path), framework="pt", device="cpu")
        names: list[str] = list(handle.keys())  # type: ignore[no-untyped-call]
        return dict.fromkeys(names, handle)
    except (SafetensorError, OSError) as error:
        raise RecipeError(f"'{path}' cannot be read ({error}); gather the statistics again") from error
