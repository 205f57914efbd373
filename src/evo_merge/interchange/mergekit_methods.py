"""What mergekit 0.1.5 calls the settings of its methods, what they are by default, and what they are here.

A setting is an option of our method, a parameter that all sources share, or one of each source. Options that mergekit has no
setting for, but a fixed behaviour, are listed as ``fixed``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

REQUIRED: Final = object()
OPTION, SHARED, OF_SOURCE = "option", "shared", "of_source"
NO_BASE, OPTIONAL_BASE, FIRST_BASE, BASE = "no base", "optional base", "the base is the first source", "base"


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting of a method.

    Attributes:
        name: In mergekit's YAML.
        kind: ``option``, ``shared`` or ``of_source``.
        default: mergekit's, or ``REQUIRED``.
        ours: Its name here.
        values: What mergekit's values are here, where that is something else.
        is_share: Whether it lies in [0, 1].
    """

    name: str
    kind: str
    default: Any
    ours: str = ""
    values: Mapping[Any, Any] | None = None
    is_share: bool = False

    @property
    def our_name(self) -> str:
        """Its name here."""
        return self.ours or self.name

    def to_ours(self, value: Any) -> Any:
        """Mergekit's value as ours."""
        return value if self.values is None else self.values[bool(value)]

    def to_mergekits(self, value: Any) -> Any:
        """Our value as mergekit's; raises ``LookupError`` where it has none."""
        return value if self.values is None else {ours: theirs for theirs, ours in self.values.items()}[value]


@dataclass(frozen=True, slots=True)
class PeerMethod:
    """A method of mergekit.

    Attributes:
        base: What it does with ``base_model``.
        settings: All that change the result.
        fixed: Options of ours for what mergekit always does.
    """

    base: str
    settings: tuple[Setting, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def of_kind(self, kind: str) -> list[Setting]:
        """The settings of one kind."""
        return [setting for setting in self.settings if setting.kind == kind]


def _normalize(*, default: bool) -> Setting:
    return Setting("normalize", OPTION, default)


def _rescale(*, default: bool) -> Setting:
    return Setting("rescale", OPTION, default, values=MappingProxyType({True: "norm", False: "none"}))


_WEIGHT = Setting("weight", OF_SOURCE, REQUIRED)
_DENSITY = Setting("density", OF_SOURCE, 1.0, is_share=True)
_GAMMA = Setting("gamma", OF_SOURCE, 0.01, is_share=True)
_SPREAD = Setting("epsilon", OF_SOURCE, 0.15)
_LAMBDA = Setting("lambda", SHARED, 1.0)
_T = Setting("t", SHARED, REQUIRED)
_MOVED = Setting("epsilon", SHARED, 1e-5)

METHODS: Final[Mapping[str, PeerMethod]] = {
    "linear": PeerMethod(NO_BASE, (_WEIGHT, _normalize(default=True))),
    "slerp": PeerMethod(FIRST_BASE, (_T,)),
    "nuslerp": PeerMethod(
        OPTIONAL_BASE,
        (
            _WEIGHT,
            Setting("nuslerp_row_wise", OPTION, default=False, ours="row_wise"),
            Setting("nuslerp_flatten", OPTION, default=True, ours="flatten"),
        ),
    ),
    "multislerp": PeerMethod(
        OPTIONAL_BASE,
        (_WEIGHT, Setting("normalize_weights", OPTION, default=True, ours="normalize"), Setting("eps", OPTION, 1e-8)),
    ),
    "karcher": PeerMethod(NO_BASE, (Setting("max_iter", OPTION, 10), Setting("tol", OPTION, 1e-5))),
    "task_arithmetic": PeerMethod(BASE, (_WEIGHT, _LAMBDA, _normalize(default=False))),
    "ties": PeerMethod(
        BASE,
        (_WEIGHT, _DENSITY, _LAMBDA, _normalize(default=True), _rescale(default=False)),
        {"equals": "sorted", "trim": "tensor"},
    ),
    "dare_linear": PeerMethod(BASE, (_WEIGHT, _DENSITY, _LAMBDA, _normalize(default=False), _rescale(default=True))),
    "dare_ties": PeerMethod(BASE, (_WEIGHT, _DENSITY, _LAMBDA, _normalize(default=False), _rescale(default=True))),
    "breadcrumbs": PeerMethod(
        BASE, (_WEIGHT, _DENSITY, _GAMMA, _LAMBDA, _normalize(default=False), _rescale(default=False)), {"trim": "tensor"}
    ),
    "breadcrumbs_ties": PeerMethod(
        BASE, (_WEIGHT, _DENSITY, _GAMMA, _LAMBDA, _normalize(default=False), _rescale(default=False)), {"trim": "tensor"}
    ),
    "della": PeerMethod(BASE, (_WEIGHT, _DENSITY, _SPREAD, _LAMBDA, _normalize(default=True), _rescale(default=True))),
    "della_linear": PeerMethod(BASE, (_WEIGHT, _DENSITY, _SPREAD, _LAMBDA, _normalize(default=False), _rescale(default=True))),
    "model_stock": PeerMethod(BASE, (Setting("filter_wise", OPTION, default=False),), {"norm_floor": 1e-6}),
    "sce": PeerMethod(BASE, (Setting("select_topk", SHARED, 1.0, is_share=True),), {"energy_floor": 1e-6}),
    "ram": PeerMethod(BASE, (_MOVED,)),
    "ramplus_tl": PeerMethod(BASE, (Setting("r", SHARED, 0.1), Setting("alpha", SHARED, 0.2), _MOVED)),
    "nearswap": PeerMethod(BASE, (_T,)),
    "arcee_fusion": PeerMethod(BASE),
    "passthrough": PeerMethod(NO_BASE, (Setting("scale", OF_SOURCE, 1.0),)),
}
# Settings that change no number: int8_mask is where a mask is kept.
WITHOUT_EFFECT: Final = ("int8_mask",)
KNOWN_SETTINGS: Final = sorted({setting.name for method in METHODS.values() for setting in method.settings} | {*WITHOUT_EFFECT})
