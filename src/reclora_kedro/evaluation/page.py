"""HTML pages that open without a network, in one style, and how they write numbers."""

from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs


def render_page(package: str, template: str, figures: Mapping[str, go.Figure], **content: Any) -> str:
    """One page of a template that extends ``page.html.jinja``.

    Args:
        package: where the template lies.
        template: its name.
        figures: by name; the template finds the page's HTML of each in ``figures`` and its title in ``titles``.
        content: what else the template reads.
    """
    loaders = [PackageLoader(package, "."), PackageLoader("reclora_kedro.evaluation", ".")]
    environment = Environment(
        loader=ChoiceLoader(loaders),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["p_value"] = lambda p_value: format_p_value(p_value).removeprefix("= ")
    environment.filters["auc"] = format_auc
    return environment.get_template(template).render(
        titles={name: figure.layout.title.text for name, figure in figures.items()},
        figures={name: _figure_html(name, figure) for name, figure in figures.items()},
        plotlyjs=Markup(get_plotlyjs()),
        **content,
    )


def format_p_value(p_value: float) -> str:
    """A p-value with its relation sign, to three decimals.

    Examples:
        >>> format_p_value(0.0421), format_p_value(0.00004)
        ('= 0.042', '< 0.001')
    """
    return "< 0.001" if p_value < 0.001 else f"= {p_value:.3f}"


def format_auc(auc: float | None) -> str:
    """An AUC to three decimals, and a dash where there is none.

    Examples:
        >>> format_auc(0.76543), format_auc(None)
        ('0.765', '–')
    """
    return "\N{EN DASH}" if auc is None else f"{auc:.3f}"


def _figure_html(name: str, figure: go.Figure) -> Markup:
    """The figure without its title, which the page shows as a heading that wraps."""
    untitled = go.Figure(figure).update_layout(title_text=None, margin_t=40)
    return Markup(
        untitled.to_html(
            full_html=False,
            include_plotlyjs=False,
            div_id=f"figure-{name}",
            config={"displayModeBar": False, "responsive": True},
        )
    )
