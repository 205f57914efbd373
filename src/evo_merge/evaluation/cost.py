"""What an evaluation took."""

from dataclasses import astuple, dataclass


@dataclass(frozen=True, slots=True)
class Cost:
    """Time, tokens and what was spared of them; costs add up.

    Attributes:
        merge_seconds: Building the candidate.
        evaluation_seconds: Answering and scoring.
        new_tokens: Tokens generated.
        n_degenerate: Answers given up because they repeated themselves.
        n_drafted: Tokens that earlier candidates' answers proposed.
        n_accepted: Those of ``new_tokens`` that a draft had proposed, which cost no step of their own.
    """

    merge_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    new_tokens: int = 0
    n_degenerate: int = 0
    n_drafted: int = 0
    n_accepted: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        """Both together."""
        return Cost(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


NOTHING = Cost()
