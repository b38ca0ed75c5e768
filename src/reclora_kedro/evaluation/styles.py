"""Styles of the models: the same colour, marker and dash in every figure, distinguishable without colour."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Style(NamedTuple):
    """Colour, marker symbol and dash of a model."""

    color: str
    symbol: str
    dash: str


# Colours of Okabe & Ito, which stay apart under the common colour vision deficiencies.
FIXED_STYLES = {
    "lens": Style("#0072B2", "circle", "solid"),
    "similarity": Style("#B8860B", "hexagon", "dash"),
    "untrained": Style("#7F7F7F", "square", "dot"),
}
VARIANT_STYLES = (
    Style("#009E73", "diamond", "dash"),
    Style("#D55E00", "triangle-up", "solid"),
    Style("#CC79A7", "cross", "dashdot"),
    Style("#56B4E9", "star", "longdash"),
)


def model_styles(models: Iterable[str], baselines: Mapping[str, Style]) -> dict[str, Style]:
    """Return the style of each model; variants take theirs in order, sixteen in all.

    Examples:
        >>> with_all = model_styles(["lens", "untrained", "shared_lora", "reclora"], {})
        >>> with_all["reclora"] == model_styles(["lens", "shared_lora", "reclora"], {})["reclora"]
        True
    """
    models, fixed = list(models), {**FIXED_STYLES, **baselines}
    variants = [model for model in models if model not in fixed]
    count = len(VARIANT_STYLES)
    for number, model in enumerate(variants):  # colours repeat after four, each time with another marker and dash
        fixed[model] = VARIANT_STYLES[(number + number // count) % count]._replace(
            color=VARIANT_STYLES[number % count].color
        )
    return {model: fixed[model] for model in models}
