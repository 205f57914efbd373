"""How numbers and roles are written for a person."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evo_merge.models.layer_path import runs
from evo_merge.recipe import DataFlowRecipe, ParameterSpaceRecipe, Recipe
from evo_merge.report.results import Model, RunResults, scores, search_score

SIGNIFICANT = 0.05
_SMALLEST_P = 1e-4  # that is written out
NBSP = "\N{NO-BREAK SPACE}"  # a number and its unit stay on one line
_MOST_SCALES = 6  # of a stretch of layers that are written out

ROLES = {
    "source": "source model",
    "unoptimised": "un-optimised merge",
    "baseline": "un-tuned merge, other method",
    "stage": "best of an earlier stage",
    "ablation": "evolved merge, scales removed",
    "front": "another member of the front",
    "best": "evolved merge",
}


@dataclass(frozen=True, slots=True)
class ScoreFormat:
    """Fractions are shown in percent, other scores as they are, with so many digits."""

    is_fraction: bool
    digits: int = 2

    def score(self, value: float) -> str:
        """``88.0 %``."""
        return f"{100 * value:.1f}{NBSP}%" if self.is_fraction else f"{value:.{self.digits}f}"

    def bounds(self, interval: Sequence[float] | None) -> str:
        """``interval`` of its two ends; empty where there is none."""
        return "" if interval is None else self.interval(*interval)

    def interval(self, low: float, high: float) -> str:
        """``84.9 to 90.6 %``."""
        if self.is_fraction:
            return f"{100 * low:.1f} to {100 * high:.1f}{NBSP}%"
        return f"{low:.{self.digits}f} to {high:.{self.digits}f}"

    def difference(self, value: float) -> str:
        """``+22.0``, in percentage points where scores are in percent."""
        return f"{100 * value:+.1f}" if self.is_fraction else f"{value:+.{self.digits}f}"

    def differences(self, interval: Sequence[float] | None) -> str:
        """``+18.1 to +26.0``, or empty like ``bounds``."""
        return "" if interval is None else " to ".join(self.difference(end) for end in interval)

    def distance(self, value: float) -> str:
        """``22.0 points``, without a sign."""
        return f"{abs(100 * value):.1f} points" if self.is_fraction else f"{abs(value):.{self.digits}f}"

    def tick(self, value: float) -> str:
        """As short as an axis wants it."""
        return f"{100 * value:g}{NBSP}%" if self.is_fraction else f"{value:g}"


def score_format(results: RunResults) -> ScoreFormat:
    """How the scores of a run are written: in percent where every known one lies between 0 and 1."""
    columns = [scores(e, results.objective) for model in results.models for e in (model.search, model.test)]
    inside = all(float(c.min()) >= 0 and float(c.max()) <= 1 for c in columns if c is not None)
    return ScoreFormat(inside and all(0 <= c.score <= 1 for c in results.candidates if c.score is not None))


def search_format(results: RunResults) -> ScoreFormat:
    """How search scores are written: as all scores, or as the plain number that the run makes of several objectives."""
    if not results.is_scalarized:
        return score_format(results)
    found = [search_score(model.search) for model in results.models] + [c.score for c in results.candidates]
    largest = max((abs(value) for value in found if value is not None), default=1.0)
    return ScoreFormat(is_fraction=False, digits=3 if largest < 10 else 1)


def formula(results: RunResults) -> str:
    """What the one number of a scalarized run is: ``weighted_sum, 0.5 times ja/accuracy plus 0.5 times en/accuracy``."""
    name, options = results.fitness_names[0], results.scalarization or {}
    equal = 1 / len(results.objectives)
    given = options.get("weights") or {}
    by_name = given if isinstance(given, Mapping) else dict(zip(results.objectives, given, strict=True))
    weights = [by_name.get(objective, equal) for objective in results.objectives]
    terms = [f"{weight:.3g} times {objective}" for weight, objective in zip(weights, results.objectives, strict=True)]
    if name == "weighted_sum":
        return f"{name}, {' plus '.join(terms)}"
    if name == "chebyshev":
        behind = [f"{weight:.3g} times that of {o}" for weight, o in zip(weights, results.objectives, strict=True)]
        return f"{name}, minus the greatest distance to the ideal {options.get('ideal', 1.0):g}: {listing(behind)}"
    return f"{name} of {listing(results.objectives)}"


def is_clear(paired: Mapping[str, Any]) -> bool:
    """Whether a difference in ``summary.json`` is more than chance explains; where there is no chance in it, any is."""
    p = paired["p_adjusted"]
    return bool(paired["difference"] != 0 if p is None else p < SIGNIFICANT)


def p_value(p: float | None) -> str:
    """``0.31``, ``0.012``, ``0.0004`` or ``< 0.0001``, in reports, tables and on the console; empty where there is none."""
    if p is None:
        return ""
    if p < _SMALLEST_P:
        return f"< {_SMALLEST_P:.4f}"
    if p < 0.001:
        return f"{p:.4f}"
    return f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def p_clause(p: float) -> str:
    """``p = 0.012``, or ``p < 0.0001``."""
    return f"p {p_value(p)}".replace(" ", NBSP) if p < _SMALLEST_P else f"p = {p_value(p)}".replace(" ", NBSP)


def duration(seconds: float) -> str:
    """``42 s``, ``3 min 20 s``, ``5 h 12 min``."""
    whole = round(seconds)
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def listing(names: Sequence[str]) -> str:
    """``a, b and c``."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def counted(n: int, noun: str, plural: str | None = None) -> str:
    """``1 model``, ``3 models``."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def path_in_words(recipe: DataFlowRecipe) -> str:
    """The layers in the order of the path, with the scales that are not 1.

    ``layers 0 to 2 of math_a, then 2 to 3 of ja (inputs times 1.03 and 0.9), then 3 of math_a``.
    """
    stretches = list(runs(recipe.path))
    said, begin = [], 0
    for model, first, last in stretches:
        end = begin + last - first + 1
        layers = f"{first} to {last}" if last > first else f"{first}"
        scales = _scales_in_words([step.scale for step in recipe.path[begin:end]], scaled_thing(recipe))
        said.append(f"{layers} of {model}{f' ({scales})' if scales else ''}")
        begin = end
    _, first, last = stretches[0]
    return f"{'layers' if last > first else 'layer'} {', then '.join(said)}"


def recipe_in_words(recipe: Recipe) -> str:
    """What is mixed or stacked, in a line: ``dare_ties of ja (weight 0.51, density 0.3) and math (weight 0.4, density 0.9)``.

    Where rules differ between tensors, the smallest and the greatest number.
    """
    if isinstance(recipe, DataFlowRecipe):
        return path_in_words(recipe)
    shared = [_values_in_words(recipe, name, None) for name in _parameters(recipe) if not _is_per_source(recipe, name)]
    own = [name for name in _parameters(recipe) if _is_per_source(recipe, name)]
    named = [
        f"{source.name} ({', '.join(_values_in_words(recipe, name, place) for name in own)})" if own else source.name
        for place, source in enumerate(recipe.sources)
    ]
    return f"{recipe.method} of {listing(named)}{f', {listing(shared)}' if shared else ''}"


def scaled_thing(recipe: DataFlowRecipe) -> str:
    """What a scale of the path multiplies."""
    return "input" if recipe.scale_target == "residual" else "what the MLP before added"


def scale_text(scale: float) -> str:
    """``1.03``, ``-0.25``, ``0.001``: at most three digits that tell something."""
    return f"{scale:.3g}"


def display_name(model: Model) -> str:
    """What a table calls a model: its name; the evolved merge is called that, whatever name it was recorded under."""
    return ROLES["best"] if model.role == "best" else model.name


def _scales_in_words(scales: Sequence[float], thing: str) -> str:
    """``input times 1.03``, ``inputs times 1, 1.03 and 0.9``, or their range where they are many; empty where all are 1."""
    if all(scale == 1 for scale in scales):
        return ""
    written = [scale_text(scale) for scale in scales]
    if len(scales) == 1:
        return f"{thing} times {written[0]}"
    several = f"{thing}s" if thing == "input" else f"{thing} each time"
    if len(scales) > _MOST_SCALES:
        return f"{several} times {scale_text(min(scales))} to {scale_text(max(scales))}"
    return f"{several} times {listing(written)}"


def _parameters(recipe: ParameterSpaceRecipe) -> list[str]:
    return list(dict.fromkeys(name for rule in recipe.parameters for name in rule.values))


def _is_per_source(recipe: ParameterSpaceRecipe, name: str) -> bool:
    return any(isinstance(rule.values.get(name), tuple) for rule in recipe.parameters)


def _values_in_words(recipe: ParameterSpaceRecipe, name: str, place: int | None) -> str:
    """A parameter over all rules, of one source where it has one a source."""
    found = [rule.values[name] for rule in recipe.parameters if name in rule.values]
    values = [float(v[place] if isinstance(v, tuple) and place is not None else v) for v in found]  # type: ignore[arg-type]
    low, high = f"{min(values):.2g}", f"{max(values):.2g}"
    return f"{name} {low}" if low == high else f"{name} {low} to {high}"
