"""Find out how files of raw tables are to be read, and sample their rows."""

import codecs
import csv
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl
import pyarrow as pa

from reclora_extras.new_log.columns import LIST_WORDS, Column, tokens

HEAD = 2**21  # bytes at the beginning of a file, unpacked, that are looked at
PIECES, PIECE = 16, 2**16  # parts of the rest of a file that is not packed, and their bytes
MOST_DECODED = 2**28  # bytes that are looked at to tell the encoding
ROWS = 20_000  # of a sample's head
LINES = 200  # that tell the separator
PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
OTHERS = {
    b"PK\x03\x04": "a zip archive or a spreadsheet: unpack it, or save it as CSV",
    b"BZh": "packed by bzip2: unpack it by `bunzip2`",
    b"\xfd7zXZ": "packed by xz: unpack it by `unxz`",
    b"\xd0\xcf\x11\xe0": "a spreadsheet: save it as CSV",
    b"SQLite format 3": "a database: see `pandas.SQLTableDataset` in conf/base/catalog_ingestion.yml",
    b"\x80\x04": "pickled: save it as parquet",
}
SEPARATORS = ("::", "\t", ";", "|", ",")
NULLS = ("NULL", "null", "NA", "N/A", "NaN", "nan", "None", "\\N", "0000-00-00", "0000-00-00 00:00:00")
HIDDEN = ("_", ".")  # with which the names of files begin that are no parts of a table
NAMELESS = "column_{}"  # as polars calls them

csv.field_size_limit(max(HEAD, csv.field_size_limit()))  # a stray quotation mark makes a field of all that follows


class UnreadableFileError(ValueError):
    """A file whose rows cannot be read; the message names it and the next step."""


@dataclass(frozen=True)
class RawFile:
    """A file of a raw table.

    Args:
        path: file, or folder of parquet files.
        format: csv, ndjson, json or parquet.
        sample: some rows; columns of delimited text are texts without surrounding blanks, and never empty.
        options: `separator`, `encoding`, `quote`, `escape`, `line_end` and `nulls` of delimited text.
        has_names: whether the first row names the columns.
        parts: the two files of a joined table, whose samples are side by side and not matched.
    """

    path: Path
    format: str
    sample: pl.DataFrame
    options: Mapping[str, Any]
    has_names: bool = True
    parts: "Parts | None" = None

    @cached_property
    def all_columns(self) -> dict[str, Column]:
        """Columns by name."""
        return {name: Column(name, self.sample[name]) for name in self.sample.columns}

    @property
    def columns(self) -> list[Column]:
        """Columns that have a name and values."""
        return [column for column in self.all_columns.values() if column.name and len(column.values)]

    def column(self, name: str) -> Column:
        return self.all_columns[name]

    def named(self, names: Mapping[str, str]) -> "RawFile":
        """Return the file with other column names, if it has none of its own."""
        return self if self.has_names else replace(self, sample=self.sample.rename(dict(names)))

    def entry(self, types: Mapping[str, str], row_number: str | None = None) -> dict[str, Any]:
        """Return the catalog entry, without its path, that reads some columns.

        Args:
            types: polars types by column.
            row_number: name of a column to number the rows by.

        Raises:
            UnreadableFileError: the format has no way to number rows.
        """
        if self.format == "parquet":
            arguments: dict[str, Any] = {"hidden_file_prefix": [*HIDDEN]} if self._has_hidden_files() else {}
            arguments |= self._numbered(row_number).get("load_args", {})
            reader = {"type": "polars.LazyPolarsDataset", "file_format": "parquet"}
            return reader | ({"load_args": arguments} if arguments else {})
        typed = {name: f"${{polars_type:{each}}}" for name, each in types.items()}
        if self.format in ("ndjson", "json"):
            if row_number is not None:
                self._refuse_numbers()
            reader = {"type": "polars.EagerPolarsDataset", "file_format": self.format}
            return reader | {"load_args": {"schema": typed}}
        nulls = {"null_values": self.options["nulls"]} if self.options["nulls"] else {}
        encoding = {"encoding": self.options["encoding"]} if self.options["encoding"] != "utf-8" else {}
        separator = self.options["separator"]
        if self._wants_pandas():
            if row_number is not None:
                self._refuse_numbers()
            arguments = {"sep": separator} | ({"engine": "python"} if len(separator) > 1 else {})
            arguments |= {} if self.options["quote"] else {"quoting": 3}
            arguments |= {"escapechar": self.options["escape"]} if self.options["escape"] else {}
            arguments |= {"lineterminator": self.options["line_end"]} if self.options["line_end"] == "\r" else {}
            arguments |= {"na_values": nulls["null_values"]} if nulls else {}
            arguments |= {"usecols": [*types]} if self.has_names else {"names": self.sample.columns}
            of_pandas = {name: "str" if each == "String" else each for name, each in types.items()}
            return {"type": "pandas.CSVDataset", "load_args": arguments | encoding | {"dtype": of_pandas}}
        arguments = {"separator": separator} if separator != "," else {}
        arguments |= encoding | nulls | ({} if self.options["quote"] else {"quote_char": None})
        arguments |= {"eol_char": self.options["line_end"]} if self.options["line_end"] == "\r" else {}
        arguments |= {"decimal_comma": True} if self.options["decimal_comma"] else {}
        if self.has_names:
            arguments |= {"columns": [*types], "schema_overrides": typed}
        else:
            text = dict.fromkeys(self.sample.columns, "${polars_type:String}")
            arguments |= {"has_header": False, "schema": text | typed}
        return {"type": "polars.CSVDataset", "load_args": arguments | self._numbered(row_number).get("load_args", {})}

    def _has_hidden_files(self) -> bool:
        """Whether a folder has files that are no parts, such as Spark's checksums, for which polars would refuse it."""
        return self.path.is_dir() and any(file.name.startswith(HIDDEN) for file in self.path.rglob("*"))

    def _wants_pandas(self) -> bool:
        """Whether polars cannot read this delimited text."""
        return len(self.options["separator"]) > 1 or bool(self.options["escape"])

    def _numbered(self, row_number: str | None) -> dict[str, Any]:
        if row_number is None:
            return {}
        return {"load_args": {"row_index_name": row_number, "row_index_offset": 1}}

    def _refuse_numbers(self) -> None:
        raise UnreadableFileError(
            f"{self.path} tells no times, and rows of such a file cannot be numbered to stand in for them: add a "
            "column of times, or save it as CSV with a separator of one character."
        )


@dataclass(frozen=True)
class Parts:
    """A file of rows, a file with further columns for them, and the column that joins both."""

    rows: RawFile
    columns: RawFile
    key: str

    def together(self) -> RawFile:
        """Return the joined table, whose sample has the columns of both."""
        height = min(self.rows.sample.height, self.columns.sample.height)
        new = [name for name in self.columns.sample.columns if name not in self.rows.sample.columns]
        sample = pl.concat(
            [self.rows.sample.head(height), self.columns.sample.select(new).head(height)], how="horizontal"
        )
        return replace(self.rows, sample=sample, parts=self)


def read_file(path: Path) -> RawFile:
    """Find out how a file is to be read, and sample its rows.

    Raises:
        UnreadableFileError: it is neither delimited text nor JSON nor parquet, or it is damaged.
    """
    try:
        return _read(path)
    except (pl.exceptions.PolarsError, OSError, EOFError, csv.Error) as error:
        [message, *_] = str(error).splitlines() or [type(error).__name__]
        raise UnreadableFileError(f"{path} cannot be read: {message}. Copy or save it again.") from error


def _read(path: Path) -> RawFile:
    if path.is_dir() or path.suffix == ".parquet" or _starts(path, b"PAR1"):
        return RawFile(path, "parquet", _parquet_sample(path), {})
    for magic, advice in OTHERS.items():
        if _starts(path, magic):
            raise UnreadableFileError(f"{path} is {advice}.")
    packing = next((name for magic, name in PACKED.items() if _starts(path, magic)), None)
    encoding = _encoding(path, packing)
    texts = _sampled_texts(path, packing, encoding)
    start = texts[0].lstrip("\ufeff \r\n\t")[:1]
    if start == "{" and _is_one_object(texts[0]):
        raise UnreadableFileError(
            f"{path} is one JSON object, not a table. If it has a record per id, write them as lines with their ids by "
            f"`jq -c 'to_entries[] | {{id: .key}} + .value' {path.name} > {path.stem}.jsonl`; if it has a list of "
            "records, by `jq -c '.NAME_OF_THE_LIST[]'`."
        )
    if start in ("{", "["):
        return _read_json(path, texts, is_lines=start == "{")
    if not start:
        raise UnreadableFileError(f"{path} is empty.")
    return _read_delimited(path, texts, encoding)


def _starts(path: Path, magic: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


def _open(path: Path, packing: str | None) -> Any:
    return pa.input_stream(str(path), compression=packing)


def _encoding(path: Path, packing: str | None) -> str:
    """Return UTF-8, UTF-16 with its byte order mark, or the one-byte encoding of Western Europe."""
    with _open(path, packing) as file:
        start = file.read(2)
    if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return "utf-16"
    decoder = codecs.getincrementaldecoder("utf-8")()
    with _open(path, packing) as file:
        try:
            for _ in range(MOST_DECODED // HEAD):
                if not (piece := file.read(HEAD)):
                    break
                decoder.decode(piece)
        except UnicodeDecodeError:
            return "latin-1" if re.search(rb"[\x81\x8d\x8f\x90\x9d]", piece) else "cp1252"  # which has none of these
    return "utf-8"


def _sampled_texts(path: Path, packing: str | None, encoding: str) -> list[str]:
    """Return whole lines of the head, then of pieces of the rest."""
    decode = partial(str, encoding=encoding, errors="replace")
    with _open(path, packing) as file:
        head = file.read(HEAD)
        is_whole = not file.read(1)
    line_end = b"\n" if b"\n" in head else b"\r"
    whole_lines, _, cut_line = decode(head).rpartition(line_end.decode())
    texts = [decode(head) if is_whole else whole_lines or cut_line]
    if is_whole or packing or encoding == "utf-16":
        return texts
    size = path.stat().st_size
    with path.open("rb") as file:
        rest = max(size - HEAD - PIECE, 0)  # the last piece ends where the file does
        texts += [_lines_within(file, HEAD + rest * n // (PIECES - 1), line_end, decode) for n in range(PIECES)]
    return texts


def _lines_within(file: BinaryIO, place: int, line_end: bytes, decode: Any) -> str:
    file.seek(place)
    _, _, rest = file.read(PIECE).partition(line_end)
    return str(decode(rest.rpartition(line_end)[0]))


def _is_one_object(text: str) -> bool:
    """Whether a text that begins with a brace is no line of JSON, or a single one of objects or lists alone."""
    first, _, rest = text.lstrip("\ufeff \r\n\t").partition("\n")
    if rest.strip():
        return first.strip() == "{" or first.rstrip().endswith((",", "{", "["))
    try:
        values = [*json.loads(first).values()]
    except ValueError:
        return not rest and len(first) > HEAD // 4  # a line that was cut
    return len(values) > 0 and all(isinstance(value, dict | list) for value in values)


def _parquet_sample(path: Path) -> pl.DataFrame:
    table = pl.scan_parquet(path / "**/*.parquet" if path.is_dir() else path)
    rows = table.select(pl.len()).collect().item()
    pieces = [table.head(ROWS)]
    if rows > ROWS:
        pieces += [table.slice(ROWS + (rows - ROWS) * n // PIECES, ROWS // PIECES) for n in range(PIECES)]
    return pl.concat(pieces).collect()


def _read_json(path: Path, texts: list[str], *, is_lines: bool) -> RawFile:
    if not is_lines:
        return RawFile(path, "json", pl.read_json(path, infer_schema_length=None).head(ROWS), {})
    records = list[dict[str, Any]]()
    for number, line in enumerate("\n".join(texts).split("\n")[:ROWS], start=1):
        try:
            records += [json.loads(line)] if line.strip() else []
        except ValueError as error:
            raise UnreadableFileError(
                f"{path} begins as lines of JSON do, but line {number} of its sample is no JSON: {error}. Lines that "
                "Python printed need double quotation marks: write them anew by `json.dumps`."
            ) from error
    return RawFile(path, "ndjson", pl.DataFrame(records, infer_schema_length=None, strict=False), {})


def _read_delimited(path: Path, texts: list[str], encoding: str) -> RawFile:
    lines = _lines(texts[0].lstrip("\ufeff"))[:LINES]
    shares = {separator: _share_alike(lines, separator) for separator in SEPARATORS}
    separator, (share, columns) = max(shares.items(), key=lambda each: each[1])
    if share < 0.8 or columns < 2:
        raise UnreadableFileError(
            f"No separator parts the lines of {path} into fields, of {', '.join(map(repr, SEPARATORS))}; the first "
            f"line is {lines[0][:80]!r}. Save it as CSV, JSON lines or parquet, with one row per line."
        )
    quote, escape = _quoting(texts[0], separator)
    line_end = "\n" if "\n" in texts[0] else "\r" if "\r" in texts[0] else "\n"
    is_tried = quote and not escape and len(separator) == 1 and encoding != "utf-16"
    if is_tried and not _reads(path, separator, quote, line_end):
        quote = None if _reads(path, separator, None, line_end) else quote
    rows = _rows(texts[0].lstrip("\ufeff"), separator, quote, escape)[: ROWS + 1]
    width = len(rows[0])
    has_names = _names_columns(rows[0], rows[1:])
    names = rows[0] if has_names else [NAMELESS.format(n + 1) for n in range(width)]
    if len(set(names)) < width:
        raise UnreadableFileError(f"{path} has two columns of one name among {', '.join(names)}: name each once.")
    for text in texts[1:]:
        rows += _rows(text, separator, quote, escape)
    body = [row for row in rows[1 if has_names else 0 :] if len(row) == width]
    if not body:
        raise UnreadableFileError(f"{path} has no row below its header: fill it, or leave it out.")
    found = {value for row in body for value in row if value in NULLS}
    cells = zip(*body, strict=True)
    columns_of_text = {
        name: pl.Series(name, [None if cell in found or not cell.strip() else cell.strip() for cell in column])
        for name, column in zip(names, cells, strict=True)
    }
    sample = pl.DataFrame(columns_of_text).cast(pl.String)
    options = {
        "separator": separator,
        "encoding": encoding,
        "quote": quote,
        "escape": escape,
        "line_end": line_end,
        "nulls": sorted(found),
        "decimal_comma": bool(commas := _with_decimal_commas(sample) if separator == ";" else []),
    }
    sample = sample.with_columns(pl.col(commas).str.replace(",", "."))
    return RawFile(path, "csv", sample, options, has_names)


def _share_alike(lines: list[str], separator: str) -> tuple[float, int]:
    """Return the share of lines with the most frequent number of fields, and that number; 0 without a separator."""
    rows = _rows("\n".join(lines), separator, '"', None) if len(separator) == 1 else _rows_of(lines, separator)
    widths = [len(row) for row in rows]
    width = max(set(widths), key=widths.count, default=0)
    return (widths.count(width) / len(widths), width) if width > 1 else (0.0, 0)


def _lines(text: str) -> list[str]:
    """Return lines, as readers of files part them: not at other characters at which str.splitlines does, too."""
    return re.split(r"\r\n?|\n", text)


def _rows_of(lines: list[str], separator: str) -> list[list[str]]:
    return [line.split(separator) for line in lines if line]


def _rows(text: str, separator: str, quote: str | None, escape: str | None) -> list[list[str]]:
    if len(separator) > 1:
        return _rows_of(_lines(text), separator)
    fields = csv.reader(
        [f"{line}\n" for line in _lines(text.replace("\0", ""))],
        delimiter=separator,
        quotechar=quote,
        quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
        escapechar=escape,
        doublequote=escape is None,
    )
    return [row for row in fields if row]


def _quoting(text: str, separator: str) -> tuple[str | None, str | None]:
    """Return the quote character and the escape character within quotes; None for either that is not used."""
    lines = _lines(text)
    quoted = re.compile(rf'(^|{re.escape(separator)})"')
    if len(separator) > 1 or not any('"' in line for line in lines):
        return (None if separator in ("::", "\t", "|") else '"'), None
    if not any(quoted.search(line) for line in lines):
        return None, None
    if any('\\"' in line for line in lines):
        return '"', "\\"
    plain, with_quotes = (_widths_alike(_rows(text, separator, quote, None)) for quote in (None, '"'))
    return ('"' if with_quotes >= plain else None), None


def _reads(path: Path, separator: str, quote: str | None, line_end: str) -> bool:
    """Whether polars, which will read it, parts a file's lines into fields by this quote character."""
    if path.stat().st_size > MOST_DECODED:
        return True  # ingestion will say so, if not
    table = pl.scan_csv(
        path, separator=separator, quote_char=quote, eol_char=line_end, infer_schema=False, encoding="utf8-lossy"
    )
    try:
        table.select(pl.all().len()).collect(engine="streaming")
    except pl.exceptions.PolarsError:
        return False
    return True


def _widths_alike(rows: list[list[str]]) -> float:
    return sum(len(row) == len(rows[0]) for row in rows) / len(rows) if rows else 0.0


def _with_decimal_commas(sample: pl.DataFrame) -> list[str]:
    """Return the columns of numbers of which some have a decimal comma."""
    texts = {name: sample[name].drop_nulls() for name in sample.columns if not {*tokens(name)} & LIST_WORDS}
    numbers = (name for name, text in texts.items() if text.str.contains(r"^-?\d+(,\d+)?$").all())
    return [name for name in numbers if texts[name].str.contains(",").any()]


def _names_columns(first: list[str], rows: list[list[str]]) -> bool:
    """Return whether a row names the columns: it has words, unlike the values below."""
    words = [cell.strip() for cell in first]
    if any(re.match(r"[-+.]?\d", word) or len(word) > 60 for word in words):
        return False
    if any("@" in word or "://" in word for word in words):
        return False
    below = [{row[place] for row in rows[:LINES] if len(row) == len(words)} for place in range(len(words))]
    return not any(word and word in values for word, values in zip(words, below, strict=True))
