"""How models are drawn: each keeps its colour, marker and dash in every figure, to be told apart without colour too."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Style(NamedTuple):
    """How a model is drawn in every figure."""

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
    """The style of each model: all but variants have their own, and these follow in their order, sixteen in all.

    Examples:
        >>> with_all = model_styles(["lens", "untrained", "shared_lora", "reclora"], {})
        >>> with_all["reclora"] == model_styles(["lens", "shared_lora", "reclora"], {})["reclora"]
        True
    """
    models, fixed = list(models), {**FIXED_STYLES, **baselines}
    variants = [model for model in models if model not in fixed]
    own = {model: _style_of_variant(number) for number, model in enumerate(variants)}
    return {model: fixed.get(model) or own[model] for model in models}


def _style_of_variant(number: int) -> Style:
    """Colours come again after four variants, each time with another marker and dash."""
    count = len(VARIANT_STYLES)
    color, (_, symbol, dash) = VARIANT_STYLES[number % count].color, VARIANT_STYLES[(number + number // count) % count]
    return Style(color, symbol, dash)
