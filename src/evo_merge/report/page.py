"""What every page is made with: templates that escape what comes from outside, and drawings for a desk and for a phone."""

from collections.abc import Callable

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from evo_merge.report.svg import Figure

WIDE, NARROW = 880.0, 360.0


def environment() -> Environment:
    """Of the templates in the folder of this module, and by their path in it of those further down."""
    return Environment(
        loader=PackageLoader("evo_merge", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def both_widths(draw: Callable[[float], Figure | None]) -> tuple[Markup, Markup] | None:
    """What draws itself at a width, at both: text in a drawing that is only scaled down could not be read."""
    wide, narrow = draw(WIDE), draw(NARROW)
    return None if wide is None or narrow is None else (Markup(wide.inline()), Markup(narrow.inline()))
