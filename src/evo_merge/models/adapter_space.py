"""Merging LoRA adapters of one base by their matrices, for methods that are linear in the task vectors.

Adapter k adds ``s_k B_k A_k`` to a tensor W, and a linear method makes ``b W + sum_k c_k s_k B_k A_k`` of that. The sum is one
product: of the matrices ``c_k s_k B_k`` side by side and the A's on top of each other. No task vector is formed, nothing of the
size of a model waits but the base, and what makes a candidate is a few megabytes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor

from evo_merge.errors import RecipeError, UnusableCandidateError
from evo_merge.methods.base import LinearForm, LinearMethod, arguments
from evo_merge.models.adapter_family import Family, family_of
from evo_merge.models.adapters import LowRank
from evo_merge.models.merging import check_mixture
from evo_merge.models.model import Model
from evo_merge.models.pool import Pool
from evo_merge.models.residency import choose_residency
from evo_merge.recipe import ModelReference, ParameterSpaceRecipe, rule_of

SCRATCH = 1 << 20  # numbers of a tensor that are summed at a time, so that they stay in the processor's cache


class OutsideAdapterSpaceError(RecipeError):
    """A recipe that cannot be merged by the matrices of its adapters; the message says why."""


class AdapterSpace:
    """Merges those recipes over a pool that can be merged by matrices.

    Args:
        pool: The models.
        device: Where the arithmetic runs.
        allowed_code: Dotted names of methods from elsewhere that may run.
        residency: Where the base waits between candidates, instead of what the pool says.
    """

    def __init__(
        self, pool: Pool, device: torch.device, allowed_code: tuple[str, ...] = (), residency: str | None = None
    ) -> None:
        self.device = device
        self._pool, self._allowed_code, self._residency = pool, allowed_code, residency
        self._families: dict[tuple[ModelReference | None, ...], Family | str] = {}
        self._waiting: dict[tuple[ModelReference, str], Tensor] = {}
        self._matrices: dict[int, tuple[Tensor, Tensor]] = {}
        self._written: dict[str, object] = {}

    def of(self, recipe: ParameterSpaceRecipe) -> "MergedAdapters | None":
        """As ``inside``; ``None`` where the recipe must be merged in another way."""
        try:
            return self.inside(recipe)
        except OutsideAdapterSpaceError:
            return None

    def inside(self, recipe: ParameterSpaceRecipe) -> "MergedAdapters":
        """The merged tensors of a recipe.

        Raises:
            OutsideAdapterSpaceError: Its method is not linear, or its sources are not LoRA adapters of one base.
            RecipeError: It does not fit itself.
            ModelError: An adapter cannot be read.
        """
        method = check_mixture(recipe, self._allowed_code)
        if not isinstance(method, LinearMethod):
            raise OutsideAdapterSpaceError(
                f"the merge by '{recipe.method}' is no sum of its sources' task vectors, hence no adapter; "
                "linear and task_arithmetic are"
            )
        if recipe.dtype != "float32":
            raise OutsideAdapterSpaceError(f"adapters are summed in float32, and the recipe says dtype: {recipe.dtype}")
        base = recipe.base if method.needs_base else None
        key = (base, *(source.reference for source in recipe.sources))
        if key not in self._families:
            self._families[key] = family_of(base, recipe.sources, self._pool)
        family = self._families[key]
        if isinstance(family, str):
            raise OutsideAdapterSpaceError(family)
        return MergedAdapters(self, recipe, method, family)

    def fill(self, merged: "MergedAdapters", parameters: Mapping[str, Tensor]) -> None:
        """Write a candidate into a model's parameters: those tensors that differ from what was written last.

        Raises:
            UnusableCandidateError: A tensor is not finite; the model is half written.
        """
        scratch = torch.empty(SCRATCH, device=self.device)
        with torch.no_grad():
            for name, parameter in parameters.items():
                numbers = merged.numbers(name)
                if self._written.get(name) != numbers:
                    self._written.pop(name, None)
                    if parameter.dtype == merged.dtype:
                        merged.write(name, parameter, scratch)
                    else:
                        parameter.copy_(merged[name])  # rounded as the recipe says
                    self._written[name] = numbers

    def release(self) -> None:
        """To be called when others write into the parameters: nothing is known of these, and nothing waits, any more."""
        self._written.clear()
        self._waiting.clear()

    def base_tensor(self, base: Model, name: str) -> Tensor:
        """A tensor of the base, on the device."""
        key = (base.reference, name)
        if key in self._waiting:
            return self._waiting[key].to(self.device)
        if self._residency is None:
            n_bytes = sum(prod(shape) * base.dtypes[tensor].itemsize for tensor, shape in base.shapes.items())
            self._residency = choose_residency(self._pool, self.device, n_bytes)
        tensor = base.read(name)
        if self._residency == "device":
            tensor = tensor.to(self.device)
        if self._residency != "disk":
            self._waiting[key] = tensor
        return tensor.to(self.device)

    def matrices(self, change: LowRank) -> tuple[Tensor, Tensor]:
        """``LowRank.left`` and ``LowRank.right`` on the device."""
        if id(change) not in self._matrices:  # its family keeps it, so that no other gets its id
            self._matrices[id(change)] = (change.left.to(self.device), change.right.to(self.device))
        return self._matrices[id(change)]


@dataclass(frozen=True)
class MergedAdapters:
    """The tensors of one candidate; each is made when asked for, and comes out the same whenever that is."""

    space: AdapterSpace
    recipe: ParameterSpaceRecipe
    method: LinearMethod
    family: Family
    _forms: dict[int, LinearForm] = field(default_factory=dict)  # by the recipe's rule; few rules serve many tensors

    @property
    def dtype(self) -> torch.dtype:
        """Of every floating tensor."""
        dtype: torch.dtype = getattr(torch, self.recipe.out_dtype)
        return dtype

    def form(self, name: str) -> LinearForm:
        """What the base's tensor and the task vectors are multiplied by."""
        rule = rule_of(self.recipe, name)
        if id(rule) not in self._forms:
            self._forms[id(rule)] = self.method.linear_form(**arguments(self.method, rule.values, len(self.recipe.sources)))
        return self._forms[id(rule)]

    def numbers(self, name: str) -> object:
        """Equal for two candidates whose tensors of that name are the same."""
        form, changes = self.form(name), self.family.changes(name)
        parts = [(id(change), c) for change, c in zip(changes, form.task_vectors, strict=True) if change is not None and c != 0]
        return self.dtype, self.family.base.reference, form.base, tuple(parts)

    def matrices(self, name: str) -> tuple[Tensor, Tensor] | None:
        """The factors of what is added to a tensor, or ``None`` where that is nothing.

        Returns:
            ``(rows, rank)`` with all numbers multiplied in, and ``(rank, columns)``, of the sum of the ranks; float32.
        """
        form = self.form(name)
        left, right = [], []
        for change, c in zip(self.family.changes(name), form.task_vectors, strict=True):
            if change is not None and c != 0.0:
                rows, columns = self.space.matrices(change)
                left.append(rows * (c * change.scale))
                right.append(columns)
        return (torch.cat(left, dim=1), torch.cat(right)) if left else None

    def __getitem__(self, name: str) -> Tensor:
        """The merged tensor of that name, in the recipe's ``out_dtype``, on the device.

        Raises:
            UnusableCandidateError: It is not finite.
        """
        base = self.space.base_tensor(self.family.base, name)
        if not base.is_floating_point():
            return base
        merged = torch.empty(base.shape, dtype=self.dtype, device=self.space.device)
        self.write(name, merged)
        return merged

    def write(self, name: str, target: Tensor, scratch: Tensor | None = None) -> None:
        """Write the merged tensor of that name into one of its shape, of any floating dtype.

        Args:
            name: The tensor.
            target: What is written to.
            scratch: Room for ``SCRATCH`` numbers in float32 on the device, where many tensors are written.

        Raises:
            UnusableCandidateError: It is not finite; the target is half written.
        """
        base = self.space.base_tensor(self.family.base, name)
        factor, added = self.form(name).base, self.matrices(name)
        if added is None:
            target.copy_(base if factor == 1.0 else base.float() * factor)
            sums = [target.sum(dtype=torch.float32)]
        else:
            sums = list(_write_sum(base, factor, *added, target, scratch))
        if not torch.isfinite(torch.stack(sums)).all():
            raise UnusableCandidateError(f"weights are not finite: '{name}'")


def _write_sum(
    base: Tensor, factor: float, left: Tensor, right: Tensor, target: Tensor, scratch: Tensor | None
) -> Iterator[Tensor]:
    """Write ``factor * base + left @ right`` into the target, some rows at a time; yields the sum of each piece."""
    rows, columns = base.shape
    step = max(1, SCRATCH // columns)
    direct = target.dtype == torch.float32
    room = scratch if scratch is not None and step * columns <= len(scratch) else None
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        if direct:
            piece = target[start:stop]
        elif room is not None:
            piece = room[: (stop - start) * columns].view(stop - start, columns)
        else:
            piece = torch.empty(stop - start, columns, device=left.device)
        piece.copy_(base[start:stop]).addmm_(left[start:stop], right, beta=factor)
        if not direct:
            target[start:stop].copy_(piece)
        # Half precision overflows where float32 does not; to sum bfloat16 takes longer than the product.
        yield (target[start:stop] if target.dtype == torch.float16 else piece).sum(dtype=torch.float32)
