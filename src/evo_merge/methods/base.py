"""What a merge method is: it merges one tensor, and knows no files, no models and no search."""

import importlib
import inspect
import keyword
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, ClassVar, Final, Protocol, TypeAlias, cast, runtime_checkable

import torch
from torch import Tensor

from evo_merge.errors import ConfigError, RecipeError

# noise(source) is uniform in [0, 1), (*shape) float32, of the source in that place: a hash of (seed, source, tensor, index), so
# it is the same in any order, part or device, and masks taken from it at two densities are nested.
Noise: TypeAlias = Callable[[int], Tensor]

# Metadata of an option that its method got after recipes of it were written: it is left out of a recipe where it has its
# default, so that earlier recipes are found again under their hash.
LATER: Final = {"later": True}

SHARES: Final = ("density", "gamma", "select_topk", "off_diagonal")  # parameters that lie in [0, 1]

NO_SHARE = 1e-8  # 0.1 + 0.2 - 0.3 is not quite 0; the peers' threshold


@dataclass(frozen=True, slots=True)
class Parameter:
    """A number that a method takes for every tensor, and that a search may move.

    Attributes:
        name: As in recipes and on the command line.
        low: Lower end of the default box.
        high: Upper end of the default box.
        start: Its value in the un-optimised merge.
        per_source: One number a source, or one for all.
        optional: A recipe may leave it out, which means ``start``.
        searched: A search moves it. One that is not searched is moved only where the user gives its bounds.
    """

    name: str
    low: float
    high: float
    start: float
    per_source: bool = True
    optional: bool = False
    searched: bool = True

    @property
    def keyword(self) -> str:
        """What ``merge`` calls it: its name, or ``lambda_`` where Python keeps the name for itself."""
        return f"{self.name}_" if keyword.iskeyword(self.name) else self.name


@dataclass(frozen=True, slots=True)
class AlignedTensors:
    """The same tensor, or the same part of it, of every model, in the dtype of the arithmetic.

    Attributes:
        sources: ``(n_models, *shape)``.
        base: ``(*shape)``; ``None`` for methods that need none.
        statistics: Of each source what its method's ``statistics_kind`` names, gathered by ``python -m evo_merge.calibrate``:
            ``fisher``, ``(*shape)``; ``gram``, of a whole matrix ``(rows, columns)``, ``(columns, columns)``. ``None`` for
            other methods, and for tensors that have none.
    """

    sources: Tensor
    base: Tensor | None
    statistics: tuple[Tensor, ...] | None = None

    @property
    def task_vectors(self) -> Tensor:
        """``(n_models, *shape)``, source minus base."""
        assert self.base is not None, "only methods with needs_base ask for task vectors"
        return self.sources - self.base


class MergeMethod(Protocol):
    """Merges one tensor. Methods are frozen dataclasses; their fields are their options and stand in the recipe.

    Attributes:
        n_sources: How many sources it merges; ``None`` is any number. A method that needs at least some says so in
            ``min_sources``, one that needs statistics of the sources which in ``statistics_kind``; its options are then
            ``statistics``, where they lie, and ``digest``, which ones they are.
        parameters: What it takes for every tensor.
    """

    n_sources: ClassVar[int | None]
    parameters: ClassVar[tuple[Parameter, ...]]

    @property
    def needs_base(self) -> bool:
        """Whether task vectors against a base are needed. Some methods have an option that decides it."""

    @property
    def elementwise(self) -> bool:
        """Whether every entry is merged by itself, so that a tensor may be cut into parts. An option may decide it."""

    def prepare(self, tensors: AlignedTensors) -> Any:
        """What can be found once a run about one whole tensor, whatever the parameters; ``None`` where there is nothing."""

    @property
    def merge(self) -> Callable[..., Tensor]:
        """Merge one tensor, or one part of it where the method is elementwise.

        Called as ``merge(tensors, state, noise, **parameters)``:

        - ``tensors``: an ``AlignedTensors``;
        - ``state``: what ``prepare`` returned for the whole tensor; ``None`` for elementwise methods;
        - ``noise``: a ``Noise`` for every entry;
        - by ``Parameter.keyword`` every parameter, ``(n_models,)`` or ``()`` as ``Parameter.per_source`` says: the recipe's
          own numbers, ``float64`` on the CPU (in fewer bits 0.7 of 10 entries would be 6); ``per_model`` brings them to the
          tensors.

        It returns ``(*shape)``, in the dtype of the arithmetic.
        """


@dataclass(frozen=True, slots=True)
class LinearForm:
    """What a linear method makes of a tensor: ``base`` times the base, plus each task vector times its number.

    Attributes:
        base: 1 where the base is kept as it is.
        task_vectors: One number a source.
    """

    base: float
    task_vectors: tuple[float, ...]


@runtime_checkable
class LinearMethod(MergeMethod, Protocol):
    """A method whose merge is linear in the task vectors, so that low-rank ones may be summed as they are."""

    @property
    def linear_form(self) -> Callable[..., LinearForm]:
        """What ``merge`` multiplies each tensor by; called with the same parameters as that, and nothing else."""


def per_model(values: Tensor, like: Tensor) -> Tensor:
    """One number a model, to multiply ``like`` ``(n_models, *shape)``: ``(n_models, 1, …, 1)``, of its dtype, where it is."""
    return values.to(like).reshape(-1, *(1 for _ in like.shape[1:]))


def as_vectors(values: Tensor) -> Tensor:
    """Each model's tensor as one vector: ``(n_models, n)``, also of tensors without dimensions or entries."""
    return values.reshape(len(values), values[0].numel())


def sum_over_models(values: Tensor | Sequence[Tensor]) -> Tensor:
    """Sum over the models in the order of the sources: the same bits for every way of parting, thread count and device.

    Half precisions are summed in ``float32`` and rounded once, as torch does: a vote may hang on the last bit.
    """
    dtype = values[0].dtype
    total = values[0].to(torch.promote_types(dtype, torch.float32), copy=True)
    for value in values[1:]:
        total += value
    return total.to(dtype)


def divided_by_sum(total: Tensor, weight: Tensor) -> Tensor:
    """A weighted sum ``(*shape)`` divided by the sum of the weights ``(n_models,)``; where that is 0, the sum as it is."""
    share = float(weight.sum())
    return total if abs(share) < NO_SHARE else total * (1.0 / share)  # as a GPU divides by a number


def shares(weight: Tensor) -> tuple[float, ...]:
    """The weights ``(n_models,)`` divided by their sum, as ``divided_by_sum`` does; as they are where that is 0."""
    total = float(weight.sum())
    return tuple(weight.tolist() if abs(total) < NO_SHARE else (weight / total).tolist())


def options_of(method: MergeMethod) -> dict[str, Any]:
    """The method's options as they stand in a recipe: every one written out, but for ``LATER`` ones at their default."""
    written = {field: getattr(method, field.name) for field in fields(cast(Any, method))}
    return {field.name: value for field, value in written.items() if not (field.metadata == LATER and value == field.default)}


def wrong_number_of_sources(method: MergeMethod, n_sources: int) -> str | None:
    """What is wrong with merging so many sources (``merges exactly 2 sources, got 3``), or ``None``."""
    least = getattr(method, "min_sources", 1)
    if method.n_sources is not None and n_sources != method.n_sources:
        return f"merges exactly {method.n_sources} source{'s' * (method.n_sources != 1)}, got {n_sources}"
    return f"merges at least {least} sources, got {n_sources}" if n_sources < least else None


def name_of(method: MergeMethod) -> str:
    """The method's name in a recipe: its module's name, or the dotted name of a class from elsewhere."""
    cls = type(method)
    package, _, module = cls.__module__.rpartition(".")
    return module if package == __package__ else f"{cls.__module__}.{cls.__qualname__}"


def method_from_recipe(name: str, options: Mapping[str, Any], allowed: Sequence[str] = ()) -> MergeMethod:
    """The method that a recipe names.

    Args:
        name: A module of ``evo_merge.methods``, or a dotted class name from elsewhere.
        options: The recipe's options; those left out have the method's defaults.
        allowed: Dotted names from elsewhere that the user allows to run.

    Raises:
        RecipeError: No such method or option, a wrong value, or a dotted name that is not allowed.
    """
    cls = _class_of(name, allowed)
    known = [field.name for field in fields(cast(Any, cls))]
    if unknown := [key for key in options if key not in known]:
        raise RecipeError(f"method '{name}' has no option '{unknown[0]}'; it has {', '.join(known) or 'none'}")
    for field in fields(cast(Any, cls)):
        if field.name in options and not _is_like(options[field.name], field.default):
            raise RecipeError(
                f"method '{name}': {field.name} cannot be {options[field.name]!r}; its default is {field.default!r}"
            )
    try:
        return cls(**options)
    except (TypeError, ValueError, ConfigError) as error:
        raise RecipeError(f"method '{name}': {error}") from error


def _class_of(name: str, allowed: Sequence[str]) -> type[MergeMethod]:
    if "." in name:
        if name not in allowed:
            raise RecipeError(f"method '{name}' is code from outside evo-merge; allow it by name with allow_code=[{name}]")
        module_name, _, class_name = name.rpartition(".")
        try:
            outside = getattr(importlib.import_module(module_name), class_name)
        except (ImportError, AttributeError) as error:
            raise RecipeError(f"method '{name}' cannot be imported: {error}") from error
        if not (inspect.isclass(outside) and is_dataclass(outside)):
            raise RecipeError(f"method '{name}' is no merge method; it must be a frozen dataclass with 'merge'")
        return cast(type[MergeMethod], outside)
    try:
        module = importlib.import_module(f"{__package__}.{name}")
    except ImportError as error:
        raise RecipeError(f"there is no merge method '{name}'") from error
    found = [
        cls
        for _, cls in inspect.getmembers(module, inspect.isclass)
        if cls.__module__ == module.__name__ and hasattr(cls, "merge") and is_dataclass(cls)
    ]
    if len(found) != 1:
        raise RecipeError(f"there is no merge method '{name}'")
    return cast(type[MergeMethod], found[0])


def _is_like(value: object, default: object) -> bool:
    """Whether an option's value is of its default's type; a text where true or false belongs would count as true."""
    if default is None or default is MISSING:
        return True
    if isinstance(default, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is type(default)


def no_noise(source: int) -> Tensor:
    """For methods without chance."""
    raise RuntimeError(f"noise of source {source} asked for, but there is none")


def as_parameter(value: tuple[float, ...] | float) -> Tensor:
    """A recipe's value as a tensor ``(n_models,)`` or ``()``."""
    return torch.tensor(value, dtype=torch.float64)


def arguments(method: MergeMethod, values: Mapping[str, tuple[float, ...] | float], n_sources: int) -> dict[str, Tensor]:
    """A recipe's values as the keyword arguments of ``merge``, those that may be left out filled in."""
    filled: dict[str, Tensor] = {}
    for parameter in method.parameters:
        start = (parameter.start,) * n_sources if parameter.per_source else parameter.start
        filled[parameter.keyword] = as_parameter(values.get(parameter.name, start))
    return filled
