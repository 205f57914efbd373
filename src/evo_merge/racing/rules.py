"""How a race is run."""

from dataclasses import dataclass

from evo_merge.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Rules:
    """``evaluation.racing``.

    Attributes:
        slices: In which the problems are asked, each as large as all before it: 4 are an eighth, a quarter, half and all.
        keep: Share of a generation that is asked everything, at least one; half is what CMA-ES learns from.
        risk: That a candidate which belongs to that share is stopped nevertheless, at most.
    """

    slices: int = 4
    keep: float = 0.5
    risk: float = 0.05

    def __post_init__(self) -> None:
        if self.slices < 2:
            raise ConfigError(f"evaluation.racing.slices must be at least 2, got {self.slices}")
        for name, value in (("keep", self.keep), ("risk", self.risk)):
            if not 0 < value < 1:
                raise ConfigError(f"evaluation.racing.{name} must lie between 0 and 1, got {value}")
