"""Raw tables from files and frames: one way to read them for Python, `new-log` and the catalog entries that it writes.

A file says itself how it is written: `find_format` returns that, and `read_file` reads by it. An empty field is
missing. A text such as NA, None or null is missing only where it stands in a column of numbers or times, in which it
can be nothing else; such a mark then counts in every column of the tables that are read together. Otherwise it is a
text like any other, such as the code of Namibia.
"""

import bz2
import codecs
import csv
import gzip
import io
import json
import lzma
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypeVar

import polars as pl

from kedro_provenance.errors import Fault
from kedro_provenance.parameters import Block
from reclora_kedro.errors import GiveTable, Table
from reclora_kedro.extras import require_extra
from reclora_kedro.ingestion.raw_tables import as_polars

K = TypeVar("K", str, Path)
HEAD = 2**21  # bytes at the beginning of a file, unpacked, that tell its format
LINES = 500  # of the head that tell separators and headers
PIECES, PIECE = 16, 2**16  # parts of the rest of a long file that a sample has, and their bytes
WHOLE = 2**26  # bytes up to which a sample is the whole file
DECODED = 2**28  # bytes that are decoded to tell the encoding
SAMPLE_ROWS = 100_000  # of a long parquet file
SEPARATORS = ("::", "\t", ";", "|", ",", "\x01", "^", " ")
"""What may separate fields; of those that fit alike, the first."""
ALIKE = 0.8  # share of the lines that have the same number of fields
STAND_IN = "\x1f"  # a separator of one character, which polars wants, in place of a longer one
NULL_MARKS = ("NULL", "null", "Null", "NA", "N/A", "n/a", "NaN", "nan", "None", "none", "<NA>", "nil", "0000-00-00")
ALWAYS_NULL = ("\\N", "0000-00-00 00:00:00")  # which databases write, and nothing else does
GROUPED = r"\d{1,3}(\.\d{3})+,\d+|\d{1,3}(,\d{3})+\.\d+"  # such as 1.203,50 or 1,203.50
NUMBER = rf"^[-+]?(\d+(\.\d*|,\d+)?|\.\d+|{GROUPED})([eE][-+]?\d+)?$"
DATE = r"^\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T,]|$)"
PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2", b"\xfd7zXZ": "xz", b"PK\x03\x04": "zip"}
UNPACKED: dict[str | None, Any] = {"gzip": gzip.open, "bz2": bz2.open, "xz": lzma.open}
OTHERS = {
    b"\xd0\xcf\x11\xe0": "a spreadsheet: save it as CSV",
    b"SQLite format 3": "a database: see `pandas.SQLTableDataset` in conf/base/catalog_ingestion.yml",
    b"\x80\x04": "pickled: save it as parquet",
}
HIDDEN = ("_", ".")  # with which the names of files begin that are no parts of a table
NAMELESS = "column_{}"  # columns of a file without a header, from 1
LINE_END = re.compile(r"\r\n?|\n")
ROW_NAME = "row"  # the column of row names, over which R writes no name

csv.field_size_limit(max(HEAD, csv.field_size_limit()))  # a stray quotation mark makes a field of all that follows


class TableFormat(Block):
    """How a file of a table is written."""

    kind: Literal["csv", "ndjson", "json", "parquet"] = "csv"
    separator: str = ","  # one character or several
    encoding: str = "utf-8"
    quote: str | None = '"'  # mark around fields; None where it is a character like any other
    escape: str | None = None  # character before a quotation mark within a field; None where marks are doubled
    line_end: str = "\n"
    skip_lines: int = 0  # before the header or, without one, before the first row
    comment: str | None = None  # beginning of lines that are no rows
    header: bool = True  # whether a line names the columns
    names: list[str] | None = None  # of the columns, in place of those of the header
    nulls: tuple[str, ...] = ()  # texts that stand for missing values

    @property
    def has_names(self) -> bool:
        """Whether the file itself names its columns."""
        return self.kind != "csv" or self.header


def read_tables(tables: Mapping[str, Any]) -> dict[str, pl.DataFrame]:
    """Return frames of polars or pandas, or tables in files, as polars frames, by what messages call a frame.

    What marks missing values in one file does so in all. Fault is raised for what is neither frame nor path, and for a
    file that cannot be read; FileNotFoundError if there is none.
    """
    frames, forms = dict[str, pl.DataFrame](), dict[str, TableFormat]()
    for name, table in tables.items():
        if not isinstance(table, str | PathLike):
            frames[name] = as_polars(table, name)
            continue
        path = Path(table)
        if not str(table):  # which would be this folder
            raise Fault(Table(name), "is an empty path", advice=GiveTable(Table(name)))
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist: correct the path, or give a frame.")
        forms[name] = find_format(path)
        with _naming(path):
            frames[name] = as_polars(_read(path, forms[name], None), name)
    return typed_tables(frames, forms)[0]


def read_file(path: Path, form: TableFormat, types: Mapping[str, Any]) -> pl.DataFrame | pl.LazyFrame:
    """Read columns of a file as polars types, given as such or by name; parquet lazily, whose columns have theirs.

    Fault is raised for a damaged file, one that lacks a column, and a value of another type.
    """
    with _naming(path):
        if form.kind == "parquet":
            return _read(path, form, None).select(*types)
        dtypes = {name: _dtype(kind) if isinstance(kind, str) else kind for name, kind in types.items()}
        frame = _read(path, form, dtypes).lazy().collect()
        return _cast(frame, dtypes, path) if form.kind == "csv" else frame.select(*types)


def _dtype(name: str) -> Any:
    """Return the polars type of a name such as String, or List,String of lists."""
    of, _, inner = name.partition(",")
    kind = getattr(pl, of, None)
    if kind is None:
        raise Fault(repr(name), "is not a polars type", advice="Write String, Int64, Float64, or List,String")
    return kind(_dtype(inner)) if inner else kind


def _read(path: Path, form: TableFormat, types: Mapping[str, Any] | None) -> pl.DataFrame | pl.LazyFrame:
    """Return all columns; of delimited text, as texts."""
    if form.kind == "parquet":
        return pl.scan_parquet(_parts(path))
    if form.kind == "csv":
        return _read_delimited(path, form)
    read = pl.read_json if form.kind == "json" else pl.read_ndjson
    return read(io.BytesIO(_bytes(path)), infer_schema_length=None, schema_overrides=types)


def sample_file(path: Path, form: TableFormat) -> tuple[pl.DataFrame, bool]:
    """Return a table of at most some megabytes, or rows from its beginning and from places all over it.

    Texts keep the marks of missing values, so that `null_marks` of several tables can be read from samples. The second
    value is whether the rows are all of them.
    """
    with _naming(path):
        if form.kind == "parquet":
            table = pl.scan_parquet(_parts(path))
            rows = table.select(pl.len()).collect().item()
            if rows <= SAMPLE_ROWS:
                return table.collect(), True
            slices = [table.slice(rows * n // PIECES, SAMPLE_ROWS // PIECES) for n in range(PIECES)]
            return pl.concat(slices).collect(), False
        if form.kind != "csv" or path.stat().st_size <= WHOLE or _packing(path) or form.encoding == "utf-16":
            return _read(path, form, None).lazy().collect(), True
        return _pieces(path, form), False


def typed_tables(
    tables: Mapping[K, pl.DataFrame], forms: Mapping[K, TableFormat]
) -> tuple[dict[K, pl.DataFrame], list[str]]:
    """Return tables with typed columns where they were read as texts, and what marks missing values in all of these."""
    texts = {name: table for name, table in tables.items() if name in forms and forms[name].kind == "csv"}
    marks = null_marks(texts.values())
    read = {name: typed(text, marks, decimal_commas=forms[name].separator != ",") for name, text in texts.items()}
    return {name: read.get(name, table) for name, table in tables.items()}, marks


def null_marks(tables: Iterable[pl.DataFrame]) -> list[str]:
    """Return the texts that stand for missing values in tables of texts: those in columns of numbers or times.

    Examples:
        >>> log = pl.DataFrame({"country": ["NA", "DE"], "rating": ["5", "NULL"]})
        >>> null_marks([log])
        ['NULL']
    """
    marks = set[str]()
    for table in tables:
        for column in table.select(pl.col(pl.String)):
            text = column.str.strip_chars()
            is_mark = text.is_in(NULL_MARKS)
            rest = text.filter(~is_mark & ~text.is_in(["", *ALWAYS_NULL])).drop_nulls()
            if len(rest) and is_mark.any() and (rest.str.contains(NUMBER).all() or rest.str.contains(DATE).all()):
                marks |= {*text.filter(is_mark)}
    return sorted(marks)


def typed(frame: pl.DataFrame, nulls: Sequence[str] = (), *, decimal_commas: bool = True) -> pl.DataFrame:
    """Return a table of texts without blanks and missing values, with numbers where all values of a column are.

    Whole numbers are integers if they are written as such throughout: 018 and +18 are texts. With `decimal_commas`, 3,5
    is a number, as it is where something else separates fields.
    """
    texts = [name for name, kind in frame.schema.items() if kind == pl.String]
    return frame.with_columns(_typed_column(_without_nulls(frame[name], nulls), decimal_commas) for name in texts)


def _without_nulls(column: pl.Series, nulls: Sequence[str]) -> pl.Series:
    text = column.str.strip_chars()
    return text.set(text.is_in(["", *ALWAYS_NULL, *nulls]), None)


def _typed_column(text: pl.Series, decimal_commas: bool) -> pl.Series:
    if not len(known := text.drop_nulls()):
        return text
    if known.str.contains(r"^(-?[1-9]\d{0,18}|0)$").all():
        whole = text.cast(pl.Int64, strict=False)
        return whole if whole.null_count() == text.null_count() else text
    is_number = known.str.contains(NUMBER).all() and not known.str.contains(r"^[-+]?0\d|^\+").any()
    if not is_number or (not decimal_commas and known.str.contains(",", literal=True).any()):
        return text
    return _floats(text) if known.str.contains(r"[.,]").any() else text  # 12e4 among whole numbers is an id


def _floats(text: pl.Series) -> pl.Series:
    is_grouped = text.str.contains(rf"^[-+]?({GROUPED})$")
    number = text.str.replace_all(",", ".", literal=True)
    whole = number.str.replace(r"\.\d+$", "").str.replace_all(".", "", literal=True)
    return number.zip_with(~is_grouped, whole + number.str.extract(r"(\.\d+)$")).cast(pl.Float64, strict=False)


def _cast(frame: pl.DataFrame, types: Mapping[str, Any], path: Path) -> pl.DataFrame:
    if missing := [name for name in types if name not in frame.columns]:
        found = f"has no column {missing[0]!r}, only: {', '.join(frame.columns)}"
        raise Fault(str(path), found, advice="Name one of them")
    columns = []
    for name, kind in types.items():
        text = frame[name]
        new = text if kind == pl.String else (_floats(text) if kind.is_float() else text).cast(kind, strict=False)
        unfit = (new.is_null() & text.is_not_null()).arg_true()
        if len(unfit):
            found = f"holds {text[unfit[0]]!r} in column {name!r} of row {unfit[0] + 1:,}, which is not of type {kind}"
            raise Fault(str(path), found, advice="Correct it, or read the column as String")
        columns.append(new)
    return pl.DataFrame(columns)


# ---- delimited text


def _read_delimited(path: Path, form: TableFormat, content: bytes | None = None) -> pl.DataFrame:
    """Return the fields as texts without blanks, and without those that stand for missing values."""
    is_plain = form.encoding == "utf-8" and not form.escape and len(form.separator) == 1
    if not is_plain:
        text = str(_bytes(path) if content is None else content, form.encoding, errors="replace").lstrip("\ufeff")
        if form.escape and form.quote:
            text = text.replace(form.escape + form.quote, form.quote * 2)
        content = (text if len(form.separator) == 1 else text.replace(form.separator, STAND_IN)).encode()
    elif content is None and _packing(path) not in (None, "gzip", "zstd"):
        content = _bytes(path)
    names = form.names
    try:
        frame = pl.read_csv(
            path if content is None else content,
            separator=form.separator if len(form.separator) == 1 else STAND_IN,
            quote_char=form.quote,
            eol_char=form.line_end,
            comment_prefix=form.comment,
            skip_lines=form.skip_lines + (form.header and names is not None),
            has_header=form.header and names is None,
            schema=None if names is None else dict.fromkeys(names, pl.String),
            infer_schema=False,
            glob=False,
        )
    except pl.exceptions.PolarsError:
        _refuse_uneven(path, form)
        raise
    frame = frame.rename({name: name.strip().lstrip("\ufeff") for name in frame.columns})
    empty = [name for name in frame.columns if not name or (name.startswith("_duplicated_") and names is None)]
    frame = frame.drop(name for name in empty if frame[name].is_null().all())
    return frame.with_columns(_without_nulls(column, form.nulls) for column in frame)


def _refuse_uneven(path: Path, form: TableFormat) -> None:
    """Refuse a file of which a line has more fields than its first row, with the number of the line."""
    lines = LINE_END.split(str(_bytes(path), form.encoding, errors="replace"))[form.skip_lines :]
    rows = _rows(lines, form.separator, form.quote, form.escape)
    width = len(form.names or rows[0])
    place = next((number for number, row in enumerate(rows) if len(row) > width), None)
    if place is not None:
        line, text = form.skip_lines + place + 1, form.separator.join(rows[place])[:80]
        found = f"cannot be read: line {line:,} has {len(rows[place])} fields, and the first row {width}: {text!r}"
        raise Fault(str(path), found, advice="Quote the field that holds a separator")


def _pieces(path: Path, form: TableFormat) -> pl.DataFrame:
    """Return rows of the head of a long file and of pieces of the rest; what a cut spoils is left out."""
    end, size = form.line_end.encode(), path.stat().st_size
    with path.open("rb") as file:
        frames = [_read_delimited(path, form, file.read(HEAD).rpartition(end)[0])]
        within = form.model_copy(update={"names": frames[0].columns, "header": False, "skip_lines": 0})
        for n in range(PIECES):
            file.seek(HEAD + max(size - HEAD - PIECE, 0) * n // (PIECES - 1))
            piece = file.read(PIECE).partition(end)[2].rpartition(end)[0]
            with suppress(pl.exceptions.PolarsError):
                frames += [_read_delimited(path, within, piece)] if piece else []
    return pl.concat(frames)


def find_format(path: Path) -> TableFormat:
    """Find out how a table is written; raise Fault for what is no delimited text, JSON or parquet, or is damaged."""
    with _naming(path):
        if path.is_dir() or path.suffix == ".parquet" or _starts(path, b"PAR1"):
            return TableFormat(kind="parquet")
        for magic, advice in OTHERS.items():
            if _starts(path, magic):
                raise Fault(str(path), f"is {advice}")
        encoding = _encoding(path)
        with _open(path) as file:
            head = file.read(HEAD)
            is_whole = not file.read(1)
        text = str(head, encoding, errors="replace").lstrip("\ufeff")
        start = text.lstrip()[:1]
        if not start:
            raise Fault(str(path), "is empty")
        if start in "{[":
            return _json_format(path, text)
        line_end = "\n" if "\n" in text else "\r" if "\r" in text else "\n"
        return _delimited_format(path, text if is_whole else text.rpartition(line_end)[0], encoding, line_end)


def _delimited_format(path: Path, text: str, encoding: str, line_end: str) -> TableFormat:
    lines = LINE_END.split(text)[:LINES]
    named = re.fullmatch(r"sep=(.)", lines[0].strip("\"' ")) if lines else None  # which Excel writes
    separator, (share, width, first) = _separator(lines, [named[1]] if named else SEPARATORS)
    if share < ALIKE or width < 2:
        found = f"was recognised in {path}, among {', '.join(map(repr, SEPARATORS))}"
        advice = "Save it as CSV, JSON lines or parquet, with one row per line"
        raise Fault("No separator", found, f"the first line is {lines[0][:80]!r}", advice)
    comment = _comment(lines[first:], separator, width)
    quote, escape = _quoting(text, separator)
    rows = [row for row in _rows(lines[first:], separator, quote, escape) if row and row[0][:1] != comment]
    form: dict[str, Any] = {"separator": separator, "encoding": encoding, "quote": quote, "escape": escape}
    form |= {"line_end": line_end, "comment": comment, "skip_lines": first}
    before = _rows(lines[first - 1 : first], separator, quote, escape) if first else []
    if before and width > 2 and len(before[0]) == width - 1 and _names_columns(before[0], [row[1:] for row in rows]):
        is_trailing = all(row[-1] == "" for row in rows if len(row) == width)
        names = [*before[0], ""] if is_trailing else [ROW_NAME, *before[0]]
        form |= {"skip_lines": first - 1, "names": [name.strip() for name in names]}
    elif not _names_columns(rows[0], rows[1:]):
        form |= {"header": False, "names": [NAMELESS.format(n + 1) for n in range(width)]}
    elif not rows[1:]:
        raise Fault(str(path), "has no row below its header", "fill it, or leave it out")
    else:
        names = [name.strip() for name in rows[0] if name.strip()]
        if repeated := [name for name, count in Counter(names).items() if count > 1]:
            raise Fault(str(path), f"has two columns of one name, {repeated[0]!r}", advice="Name each once")
    result = TableFormat(**form)
    if quote and not _reads(path, result) and _reads(path, unquoted := result.model_copy(update={"quote": None})):
        return unquoted
    return result


def _separator(lines: Sequence[str], marks: Sequence[str]) -> tuple[str, tuple[float, int, int]]:
    """Return the separator by which most lines have alike many fields, and what `_shape` says of it.

    Blanks separate where nothing else does, or where it would cut quoted fields. Marks that quote nothing count last.
    """
    plain = [mark for mark in marks if mark != " " or len(marks) == 1]
    tries = ((plain, '"'), ([" "], '"'), (plain, None))
    for separators, quote in tries:
        shapes = {mark: _shape(lines, mark, quote) for mark in separators}
        best = max(shapes, key=lambda mark: shapes[mark])
        if shapes[best][0] >= ALIKE:
            break
    return best, shapes[best]


def _shape(lines: Sequence[str], separator: str, quote: str | None) -> tuple[float, int, int]:
    """Return the share of lines with the most frequent number of fields, and that number, and the first such line.

    Lines before the first one are no rows: a title, a comment, or a header that lacks a name.
    """
    rows = _rows(lines, separator, quote, None)
    if quote:  # a field that is cut by the separator, or blanks that leave what separates rows and fields elsewhere
        elsewhere = r"[\t\n]" if separator == " " else r"(?!)"
        is_whole = [all(cell.count(quote) % 2 == 0 and not re.search(elsewhere, cell) for cell in row) for row in rows]
        rows = [row if whole else [""] for row, whole in zip(rows, is_whole, strict=True)]
    counts = Counter(len(row) for row in rows if len(row) > 1)
    if not counts:
        return 0.0, 0, 0
    width = max(counts, key=lambda each: (counts[each], each))
    first = next(number for number, row in enumerate(rows) if len(row) == width)
    return counts[width] / len([row for row in rows[first:] if row]), width, first


def _comment(lines: Sequence[str], separator: str, width: int) -> str | None:
    """Return "#" if lines that begin with it, below the first row, have another number of fields than rows."""
    marked = [line for line in lines[1:] if line.startswith("#")]
    return "#" if marked and all(len(row) != width for row in _rows(marked, separator, None, None)) else None


def _rows(lines: Iterable[str], separator: str, quote: str | None, escape: str | None) -> list[list[str]]:
    """Return the fields of each line, or of several where a quoted field has a line break; none of an empty line."""
    if len(separator) > 1:
        return [line.split(separator) if line else [] for line in lines]
    written: dict[str, Any] = {"quotechar": quote, "quoting": csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE}
    written |= {"delimiter": separator, "escapechar": escape, "doublequote": escape is None}
    return list(csv.reader([f"{line}\n".replace("\0", "") for line in lines], **written))


def _quoting(text: str, separator: str) -> tuple[str | None, str | None]:
    """Return the quote character and the escape character within quotes; None for either that is not used."""
    if len(separator) > 1 or '"' not in text:
        return (None if separator in ("::", "\t", "|", "\x01") else '"'), None
    lines = LINE_END.split(text)
    quoted = re.compile(rf'(^|{re.escape(separator)})"')
    if not any(quoted.search(line) for line in lines):
        return None, None
    if '\\"' in text:
        return '"', "\\"
    plain, with_quotes = (_share_as_wide_as_first(_rows(lines, separator, quote, None)) for quote in (None, '"'))
    return ('"' if with_quotes >= plain else None), None


def _share_as_wide_as_first(rows: Iterable[Sequence[str]]) -> float:
    widths = [len(row) for row in rows if row]
    return widths.count(widths[0]) / len(widths) if widths else 0.0


def _reads(path: Path, form: TableFormat) -> bool:
    """Whether a file that is not too long can be parted into fields by its quotation marks."""
    with suppress(pl.exceptions.PolarsError):
        return path.stat().st_size > DECODED or _read_delimited(path, form).width > 0
    return False


def _names_columns(first: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Return whether a row names the columns: it has words, unlike the values below."""
    words = [cell.strip() for cell in first]
    if any(re.match(NUMBER, word) or re.match(DATE, word) or len(word) > 60 or "@" in word for word in words):
        return False
    below = [[row[place].strip() for row in rows if len(row) == len(words)] for place in range(len(words))]
    return not any(_is_one_of(word, values) for word, values in zip(words, below, strict=True) if word)


def _is_one_of(word: str, values: Sequence[str]) -> bool:
    """Whether a word may stand among values: it does, or they differ from it in their digits alone."""
    if word in values or "://" in word:
        return True
    has_digits, pattern = re.search(r"\d", word), re.sub(r"\d+", "0", word)
    return bool(has_digits and values) and all(re.sub(r"\d+", "0", value) == pattern for value in values)


# ---- JSON, parquet, and bytes


def _json_format(path: Path, text: str) -> TableFormat:
    if text.lstrip()[0] == "[":
        return TableFormat(kind="json")
    if _is_one_object(text):
        raise Fault(
            str(path),
            "is one JSON object, not a table",
            advice="If it has a record per id, write them as lines with their ids by "
            f"`jq -c 'to_entries[] | {{id: .key}} + .value' {path.name} > {path.stem}.jsonl`; if it has a list of "
            "records, by `jq -c '.NAME_OF_THE_LIST[]'`",
        )
    first = text.lstrip().partition("\n")[0]
    try:
        json.loads(first)
    except ValueError as error:
        found = f"begins like lines of JSON, but its first line is not JSON: {error}"
        advice = "Lines that Python printed need double quotation marks: write them with `json.dumps`"
        raise Fault(str(path), found, advice=advice) from error
    return TableFormat(kind="ndjson")


def _is_one_object(text: str) -> bool:
    """Whether a text that begins with a brace is no line of JSON, or a single one of objects or lists alone."""
    first, _, rest = text.lstrip().partition("\n")
    if rest.strip():
        return first.strip() == "{" or first.rstrip().endswith((",", "{", "["))
    try:
        values = [*json.loads(first).values()]
    except ValueError:
        return not rest and len(first) > HEAD // 4  # a line that was cut
    return len(values) > 0 and all(isinstance(value, dict | list) for value in values)


def _parts(path: Path) -> Any:
    """Return the parquet files of a folder, without what Spark leaves beside them."""
    if not path.is_dir():
        return path
    parts = sorted(file for file in path.rglob("*.parquet") if not file.name.startswith(HIDDEN))
    if not parts:
        raise Fault(str(path), "has no parquet file", advice="Name a file, or a folder of parquet files")
    return parts


def _starts(path: Path, magic: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


def _packing(path: Path) -> str | None:
    return next((name for magic, name in PACKED.items() if _starts(path, magic)), None)


def _open(path: Path) -> Any:
    """Open a file for reading, unpacked."""
    packing = _packing(path)
    if packing == "zip":
        return _open_zip(path)
    if packing == "zstd":
        require_extra("arrow", f"{path}, packed by zstd,")
        import pyarrow as pa

        return pa.input_stream(str(path), compression=packing)
    return UNPACKED.get(packing, open)(path, "rb")


def _open_zip(path: Path) -> Any:
    archive = zipfile.ZipFile(path)
    names = [name for name in archive.namelist() if not (name.endswith("/") or name.startswith("__MACOSX"))]
    if "[Content_Types].xml" in names:
        raise Fault(str(path), "is a spreadsheet", advice="Save it as CSV")
    if len(names) != 1:
        found = f"holds {len(names)} files, {', '.join(names[:5])}"
        raise Fault(str(path), found, advice="Unpack it, and name the file of the table")
    return archive.open(names[0])


def _bytes(path: Path) -> bytes:
    with _open(path) as file:
        return bytes(file.read())


def _encoding(path: Path) -> str:
    """Return UTF-8, UTF-16 with its byte order mark, or the one-byte encoding of Western Europe."""
    with _open(path) as file:
        piece = file.read(HEAD)
        if piece[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            return "utf-16"
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            for _ in range(DECODED // HEAD):
                decoder.decode(piece)
                if not (piece := file.read(HEAD)):
                    break
        except UnicodeDecodeError:
            return "latin-1" if re.search(rb"[\x81\x8d\x8f\x90\x9d]", piece) else "cp1252"  # which has none of these
    return "utf-8"


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name the file in the errors of readers."""
    try:
        yield
    except (pl.exceptions.PolarsError, OSError, EOFError, csv.Error, lzma.LZMAError, zipfile.BadZipFile) as error:
        if isinstance(error, FileNotFoundError):
            raise
        [message, *_] = str(error).splitlines() or [type(error).__name__]
        advice = "Correct it, or copy or save it again"
        raise Fault(str(path), f"cannot be read: {message}", advice=advice) from error
