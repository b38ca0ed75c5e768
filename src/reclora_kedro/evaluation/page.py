"""Self-contained HTML pages in one style."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from reclora_kedro.evaluation import formats

if TYPE_CHECKING:
    import plotly.graph_objects as go

NUMBERS = ("metric", "count", "difference", "interval", "signed_interval", "signed_estimate", "level", "p_value")


def render_page(package: str, template: str, figures: Mapping[str, go.Figure], **content: Any) -> str:
    """Render a template of a package that extends ``page.html.jinja``.

    The template reads ``content``, and by name the figures' HTML as ``figures`` and their titles as ``titles``.
    """
    from plotly.offline import get_plotlyjs

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
    # The page shows the title as a heading, which wraps.
    import plotly.graph_objects as go

    untitled = go.Figure(figure).update_layout(title_text=None, margin_t=40)
    config = {"displayModeBar": False, "responsive": True}
    return Markup(untitled.to_html(full_html=False, include_plotlyjs=False, div_id=f"figure-{name}", config=config))
