"""Which line of a file polars cannot read."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reclora_kedro.interactions.broken_lines import find_broken_line

SCHEMA = {"user_id": pl.Int64, "title": pl.String, "rating": pl.Float64}
BREAKS = {
    "a word for a number": "1{0}A{0}four",
    "too many fields": "1{0}A{0}4{0}5",
    "both on two lines": '1{0}"A\nB"{0}x{0}4',
}


@given(
    rows=st.lists(st.sampled_from(["A", '"A\nB"', '"A;,\t""B"""', ""]), max_size=250),
    place=st.integers(0, 250),
    separator=st.sampled_from(",;\t"),
    skipped=st.integers(0, 3),
    header=st.booleans(),
    comments=st.booleans(),
    last_line_ends=st.booleans(),
    broken=st.sampled_from(sorted(BREAKS)),
)
def test_any_broken_line_is_found(
    rows: list[str],
    place: int,
    separator: str,
    skipped: int,
    header: bool,
    comments: bool,
    last_line_ends: bool,
    broken: str,
) -> None:
    lines = ["free text; of, the first lines"] * skipped + [separator.join(SCHEMA)] * header
    data = [separator.join(["7", title, "4"]) for title in rows]
    text = BREAKS[broken].format(separator)
    data.insert(min(place, len(rows)), text)
    if comments:
        data = [line for row in data for line in ("#not,a;row", row)]
    content = "\n".join(lines + data) + "\n" * last_line_ends
    load_args = {"schema": SCHEMA, "has_header": header, "separator": separator, "skip_lines": skipped}
    if comments:
        load_args["comment_prefix"] = "#"

    line = find_broken_line(content.encode(), **load_args)

    assert line is not None
    assert line.number == content[: content.index(text)].count("\n") + 1
    assert line.text.splitlines()[-1] == text.splitlines()[-1]
    assert line.columns in ([], list(SCHEMA))


@pytest.mark.parametrize("content", ["", "user_id,title\n", "user_id,title\n1,A\n\n2,B"])
def test_a_sound_file_has_none(content: str) -> None:
    assert find_broken_line(content.encode(), schema_overrides={"user_id": pl.Int64}) is None


def test_types_that_polars_guesses() -> None:
    content = "\r\n".join(["user_id,rating", *["1,4"] * 200, "1,four", "1,4"]).encode()
    line = find_broken_line(content)
    assert line is not None
    assert (line.number, line.text, line.columns) == (202, "1,four", ["user_id", "rating"])


def test_a_byte_of_another_encoding_and_a_quotation_that_never_ends() -> None:
    rows = [b"1,A"] * 5
    line = find_broken_line(b"\n".join([*rows, "1,é".encode("latin-1"), *rows]), has_header=False)
    assert line is not None
    assert line.number == 6
    line = find_broken_line(b"\n".join([*rows, b'1,"A', *rows]), has_header=False)
    assert line is not None
    assert line.number == 6


def test_quotation_marks_that_are_characters() -> None:
    content = b'1,A\n1,"A\n1,A\nx,A\n'
    line = find_broken_line(content, has_header=False, quote_char=None, schema={"id": pl.Int64, "title": pl.String})
    assert line is not None
    assert line.number == 4


LINES = ["id,title,year", *(f"{row},T,1999" for row in range(2, 9))]


@pytest.mark.parametrize(
    ("broken", "number", "stray"),
    [
        ({4: '4,12" disc,1999'}, 4, 4),
        ({4: '4,12" disc,1999', 7: "seven,T,1999"}, 7, 4),
        ({4: '4,12" disc,1999', 6: "6,T,1999,1", 8: '8,7" disc,1999'}, 6, 4),
        ({4: '4,"disc,1999', 6: "six,T,1999", 8: '8,"disc,1999'}, 6, 4),
        ({4: '4,"Big" Fish,1999'}, 4, 4),
        ({3: '3,"A, B",1999', 4: '4,"disc,1999'}, 4, 4),
        ({4: '4,"Big\nFish",no'}, 4, None),
    ],
)
def test_a_quotation_mark_that_joins_lines_does_not_hide_the_broken_one(
    broken: dict[int, str], number: int, stray: int | None
) -> None:
    content = "\n".join(broken.get(place, line) for place, line in enumerate(LINES, 1)) + "\n"
    line = find_broken_line(content.encode(), schema={"id": pl.Int64, "title": pl.String, "year": pl.Int64})
    assert line is not None
    assert (line.number, line.stray_quote, line.text) == (number, stray, broken[number])
