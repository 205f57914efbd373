"""A path in words."""

import pytest

from evo_merge.recipe import DataFlowRecipe, ModelReference, Source, Step
from evo_merge.report.wording import NBSP, p_clause, p_value, path_in_words


def path(*steps: tuple[str, int, float], scale_target: str = "residual") -> DataFlowRecipe:
    models = tuple(Source(name, ModelReference(name)) for name in dict.fromkeys(model for model, _, _ in steps))
    return DataFlowRecipe(models, tuple(Step(*step) for step in steps), scale_target, "float32")


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([("a", 0, 1.0)], "layer 0 of a"),
        ([("a", 0, 1.0), ("a", 1, 1.0), ("a", 2, 1.0)], "layers 0 to 2 of a"),
        (
            [("a", 0, 1.0), ("a", 1, 1.0), ("b", 2, 1.03), ("a", 3, 1.0)],
            "layers 0 to 1 of a, then 2 of b (input times 1.03), then 3 of a",
        ),
        (
            [("a", 0, 1.0), ("b", 2, 1.0), ("b", 3, -0.25), ("b", 3, 1.0)],
            "layer 0 of a, then 2 to 3 of b (inputs times 1 and -0.25), then 3 of b",
        ),
        ([("a", layer, 0.9 + layer / 50) for layer in range(11)], "layers 0 to 10 of a (inputs times 0.9 to 1.1)"),
    ],
)
def test_a_path_is_told_as_stretches_of_layers(steps: list[tuple[str, int, float]], said: str) -> None:
    assert path_in_words(path(*steps)) == said


def test_a_scale_of_the_branch_is_no_scale_of_the_input() -> None:
    said = path_in_words(path(("a", 0, 1.0), ("a", 1, 0.5), scale_target="branch"))
    assert said == "layers 0 to 1 of a (what the MLP before added each time times 1 and 0.5)"


@pytest.mark.parametrize(
    ("p", "said"),
    [(None, ""), (0.42, "0.42"), (0.0312, "0.031"), (0.0004, "0.0004"), (0.0001, "0.0001"), (0.00009, "< 0.0001")],
)
def test_a_p_value_is_written_in_one_way(p: float | None, said: str) -> None:
    assert p_value(p) == said
    if p is not None:
        assert p_clause(p).replace(NBSP, " ") == (f"p {said}" if said.startswith("<") else f"p = {said}")
