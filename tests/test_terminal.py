"""Whatever stands in a title is shown as it is."""

import polars as pl
import pytest

from reclora_kedro.recommendation.recommendations import titles_table
from reclora_kedro.terminal import show

TITLES = ["[/]", "[bold]x", "[red]Heat[/red]", "\\[b]", ":smile: (1990)", "[link=http://a.b]c[/link]"]


@pytest.mark.parametrize("title", TITLES)
def test_titles_and_ids_are_text(title, capsys):
    recommendations = pl.DataFrame(
        {
            "user_id": [title],
            "rank": [1],
            "title": [title],
            "because": [[title]],
            "score": [0.5],
            "fallback": [False],
        }
    )
    show(titles_table(recommendations))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["Recommended", "to", "user", *title.split()]
    cells = ["1", title, title]
    assert any([cell.strip() for cell in line.split("│")[1:-1]] == cells for line in lines)
