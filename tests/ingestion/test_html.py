"""HTML in raw texts."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reclora_kedro.ingestion.entities import read_html, read_html_columns


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Tom &amp; Jerry", "Tom & Jerry"),
        ("Rock &#39;n&#x27; Roll", "Rock 'n' Roll"),
        ("caf&eacute;&nbsp;bar", "café bar"),
        ("Q&amp;amp;A &amp;quot;x&amp;quot;", 'Q&A "x"'),
        ("<b>Bold</b>, <i class='x'>new</i>", "Bold, new"),
        ("one<br />two<BR>three<p>four</p>", "one two three four"),
        ('<a href="https://x.example/?a=1&amp;b=2">Link</a>', "Link"),
        ("<ul><li>One</li><li>Two</li></ul>", "One Two"),
        ("a <!-- note --> b", "a b"),
        ("x<script type='a'>if (a < b) {}</script>y", "x y"),
        ("How to close &lt;b&gt;", "How to close <b>"),
        ("<br/>", ""),
    ],
)
def test_markup_is_read(raw: str, expected: str) -> None:
    text = pl.Series([raw])
    assert read_html(text).to_list() == [expected]
    assert text.to_list() == [raw]


@pytest.mark.parametrize(
    "text",
    [
        "a < b and c > d",
        "I <3 NY",
        "<Harmony/>",
        "x <b and c> d",
        "AT&T; R&B, Q & A",
        "&foo; &notit; &;",
        "under <25",
        "  two  spaces & more ",
        "a\n&\tb",
        "",
        None,
    ],
)
def test_what_is_no_markup_stays(text: str | None) -> None:
    assert read_html(pl.Series([text], dtype=pl.String)).to_list() == [text]


@given(st.lists(st.none() | st.text()))
def test_texts_without_its_characters_stay(texts: list[str | None]) -> None:
    bare = pl.Series(texts, dtype=pl.String).str.replace_all("[&<]", "")
    assert read_html(bare).equals(bare)


def test_columns_of_text_and_of_lists_and_how_many_rows_changed() -> None:
    table = pl.DataFrame(
        {
            "id": [1, 2, 3, 4],
            "title": ["A &amp; B", "C", None, "<b>D</b>"],
            "tags": [["x &lt; y", "z"], [], None, [None, "<i>i</i>"]],
            "other": ["&amp;"] * 4,
        }
    )
    read, rows = read_html_columns(table, ["title", "tags", "id", "absent", None])
    assert rows == 2
    assert read["title"].to_list() == ["A & B", "C", None, "D"]
    assert read["tags"].to_list() == [["x < y", "z"], [], None, [None, "i"]]
    assert read.select("id", "other").equals(table.select("id", "other"))
    assert read_html_columns(table, ["id"])[1] == 0
    assert read_html_columns(table.clear(), ["title", "tags"])[1] == 0
