"""HTML pages that open without a network, in one style."""

from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from reclora_kedro.evaluation import formats

NUMBERS = ("metric", "count", "difference", "interval", "signed_interval", "level", "p_value")


def render_page(package: str, template: str, figures: Mapping[str, go.Figure], **content: Any) -> str:
    """One page of a template that extends ``page.html.jinja``.

    Args:
        package: where the template lies.
        template: its name.
        figures: by name; the template finds the page's HTML of each in ``figures`` and its title in ``titles``.
        content: what else the template reads.
    """
    loader = ChoiceLoader([PackageLoader(package, "."), PackageLoader("reclora_kedro.evaluation.templates", ".")])
    environment = Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters |= {name: getattr(formats, name) for name in NUMBERS}
    return environment.get_template(template).render(
        titles={name: figure.layout.title.text for name, figure in figures.items()},
        figures={name: _figure_html(name, figure) for name, figure in figures.items()},
        plotlyjs=Markup(get_plotlyjs()),
        **content,
    )


def _figure_html(name: str, figure: go.Figure) -> Markup:
    """The figure without its title, which the page shows as a heading that wraps."""
    untitled = go.Figure(figure).update_layout(title_text=None, margin_t=40)
    config = {"displayModeBar": False, "responsive": True}
    return Markup(untitled.to_html(full_html=False, include_plotlyjs=False, div_id=f"figure-{name}", config=config))
