"""Files of tables, written in many ways, are read as the same table."""

import bz2
import gzip
import json
import lzma
import zipfile
from pathlib import Path

import polars as pl
import pytest

from reclora_kedro.ingestion.tables import find_format, null_marks, read_file, read_tables, sample_file, typed

TABLE = pl.DataFrame(
    {
        "user": [f"u{n % 5}" for n in range(20)],
        "item": [n % 7 + 10 for n in range(20)],
        "title": [f"Über {n % 7}, again" for n in range(20)],
        "stars": [n % 5 + 0.5 for n in range(20)],
    }
)


def read(path: Path) -> pl.DataFrame:
    return read_tables({"log": path})["log"]


def lines(separator: str = ",", rows: pl.DataFrame = TABLE, quote: str = '"') -> list[str]:
    body = [
        [f"{quote}{value}{quote}" if isinstance(value, str) else str(value) for value in row] for row in rows.rows()
    ]
    return [separator.join(row) for row in [rows.columns, *body]]


def text(separator: str = ",", end: str = "\n", **changes: str) -> str:
    return end.join(lines(separator, **changes)) + end


def zipped(content: bytes, path: Path) -> bytes:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("log.csv", content)
    return path.read_bytes()


[HEADER, *BODY] = lines()
WAYS = {
    "commas": text().encode(),
    "semicolons": text(";").encode(),
    "tabs": text("\t").encode(),
    "bars": text("|", quote="").encode(),
    "two colons": text("::", quote="").encode(),
    "blanks": text(" ").encode(),
    "a byte order mark": text().encode("utf-8-sig"),
    "Western Europe": text().encode("cp1252"),
    "UTF-16": text().encode("utf-16"),
    "Windows": text(end="\r\n").encode(),
    "an old Mac": text(end="\r").encode(),
    "Excel": ("sep=;\r\n" + text(";", end="\r\n")).encode(),
    "decimal commas": text(";").replace(".5", ",5").encode(),
    "comments": ("# exported, by hand\n# on a Monday\n" + text() + "# the end\n").encode(),
    "a title": ("Orders of 2020\n\n" + text()).encode(),
    "trailing separators": "".join(f"{line};\n" for line in lines(";")).encode(),
    "trailing separators of rows": "\n".join([lines(";")[0], *(f"{line};" for line in lines(";")[1:])]).encode(),
    "escapes": text().replace("Über", '\\"Über\\"').encode(),
    "doubled marks": text().replace("Über", '""Über""').encode(),
    "gzip": gzip.compress(text().encode()),
    "bz2": bz2.compress(text().encode()),
    "xz": lzma.compress(text().encode()),
    "JSON lines": "".join(f"{json.dumps(row)}\n" for row in TABLE.to_dicts()).encode(),
    "JSON": json.dumps(TABLE.to_dicts(), indent=1).encode(),
}


@pytest.mark.parametrize("way", [*WAYS, "zip"])
def test_a_table_is_read_however_it_is_written(way, tmp_path):
    path = tmp_path / "log.dat"
    path.write_bytes(zipped(text().encode(), tmp_path / "log.zip") if way == "zip" else WAYS[way])
    marked = TABLE.with_columns(pl.col("title").str.replace("Über", '"Über"'))
    expected = marked if way in ("escapes", "doubled marks") else TABLE
    assert read(path).equals(expected)
    form = find_format(path)
    sample, is_whole = sample_file(path, form)
    assert is_whole
    assert typed(sample, null_marks([sample])).equals(expected)
    types = {"item": pl.String, "stars": pl.Float64}
    assert pl.DataFrame(read_file(path, form, types)).equals(expected.select("item", "stars").cast(types))


def test_names_of_rows_that_r_writes_have_no_name_in_the_header(tmp_path):
    (tmp_path / "r.txt").write_text("\n".join([HEADER, *(f'"{n}",{line}' for n, line in enumerate(BODY, 1))]))
    table = read(tmp_path / "r.txt")
    assert table.columns == ["row", *TABLE.columns]
    assert table.drop("row").equals(TABLE)


def test_a_file_without_a_header_is_told_by_its_values(tmp_path):
    (tmp_path / "log.csv").write_text("\n".join(BODY))
    assert read(tmp_path / "log.csv").equals(
        TABLE.rename({name: f"column_{n}" for n, name in enumerate(TABLE.columns, 1)})
    )
    (tmp_path / "log.csv").write_text("B01,Red Lamp\nB02,Blue Lamp\nB03,Garden\n")
    assert read(tmp_path / "log.csv").height == 3


def test_a_mark_of_missing_values_is_a_text_elsewhere(tmp_path):
    (tmp_path / "log.csv").write_text("user,item,rating\nNA,None,4\nann,null,\n,x,5\n")
    table = read(tmp_path / "log.csv")
    assert table["user"].to_list() == ["NA", "ann", None]
    assert table["item"].to_list() == ["None", "null", "x"]
    (tmp_path / "log.csv").write_text("user,item,rating\nNA,1,4\nann,NA,NA\nbob,2,\\N\n")
    table = read(tmp_path / "log.csv")
    assert table["user"].to_list() == [None, "ann", "bob"]
    assert table["item"].to_list() == [1, None, 2]
    assert table["rating"].to_list() == [4, None, None]


def test_a_mark_of_one_table_counts_in_the_tables_beside_it(tmp_path):
    (tmp_path / "log.csv").write_text("user,item,rating\na,NA,4\nann,b,NA\n")
    (tmp_path / "items.csv").write_text("item,title\nNA,North America\nb,Blue\n")
    tables = read_tables({name: tmp_path / f"{name}.csv" for name in ("log", "items")})
    assert [tables[name]["item"].to_list() for name in tables] == [[None, "b"], [None, "b"]]


def test_ids_are_whole_numbers_only_if_all_are_written_as_such(tmp_path):
    (tmp_path / "log.csv").write_text("a,b,c,d,e\n018,+18,12e4,1,1.0\n19,19,1234,2,2.0\n")
    types = read(tmp_path / "log.csv").schema
    assert [*types.values()] == [pl.String, pl.String, pl.String, pl.Int64, pl.Float64]


def test_a_sample_of_a_long_file_has_rows_from_all_over_it(tmp_path, monkeypatch):
    monkeypatch.setattr("reclora_kedro.ingestion.tables.WHOLE", 1)
    monkeypatch.setattr("reclora_kedro.ingestion.tables.HEAD", 4_096)
    monkeypatch.setattr("reclora_kedro.ingestion.tables.PIECE", 512)
    (tmp_path / "log.csv").write_text("".join(f"{n},{n % 7},x\n" for n in range(100_000)))
    sample, is_whole = sample_file(tmp_path / "log.csv", find_format(tmp_path / "log.csv"))
    assert not is_whole
    places = sample["column_1"].cast(pl.Int64)
    assert sample.height < 2_000
    assert places.max() == 99_998 + 1
    assert places.is_between(40_000, 60_000).any()


UNREADABLE = {
    b"PK\x03\x04...": "cannot be read",
    b"": "is empty",
    b"\x1f\x8bgzip": "log cannot be read: .* copy or save it again",
    b"PAR1 no more": "log cannot be read: .* copy or save it again",
    b"{'user_id': 1, 'item_id': 2}\n": r"first line is not JSON.*json\.dumps",
    b"1:\n1488844,3,2005-09-06\n2:\n822109,5,2005-05-13\n": "No separator was recognised .* the first line is '1:'",
    b"user_id,item_id\n": "has no row below its header",
    b"user_id,user_id\na,0.5\n": "two columns of one name, 'user_id'",
    b'{"u1": {"a": 1}, "u2": {"a": 2}}': "is one JSON object, not a table",
    b"a,b\n" + b"1,2\n" * 9 + b"1,2,3\n": "line 11 has 3 fields, and the first row 2",
}


@pytest.mark.parametrize(("content", "message"), UNREADABLE.items(), ids=UNREADABLE.values())
def test_what_is_no_table_is_refused_with_what_to_do(content, message, tmp_path):
    (tmp_path / "log").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "log")
