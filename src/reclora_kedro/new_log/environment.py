"""Write a guess as the commented files of an environment, and describe it."""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any
from unicodedata import is_normalized, normalize

import polars as pl
import yaml

from kedro_provenance.errors import Fault
from kedro_provenance.files.atomic import atomic_folder
from reclora_kedro.defaults import CARRIED
from reclora_kedro.extras import missing_extra
from reclora_kedro.history.suiting import settings_for, suiting_settings
from reclora_kedro.ingestion import lexicon
from reclora_kedro.ingestion.column_values import examples, plain, tokens
from reclora_kedro.ingestion.guess import NONE, ROW_NUMBER, AskUser, Log, RawTable, is_named_time, positive_mark
from reclora_kedro.ingestion.guess_tables import Entities, Guess, ingestion_block

SHORT = 2_000  # users' distinct items, below which splits, which sample no repeats, may have fewer than the LLM reads
KEYED_TABLES = "reclora_kedro.datasets.joined.KeyedTablesDataset"
RAW_TABLE = "reclora_kedro.datasets.tables.RawTableDataset"
NOTHING = {"type": "MemoryDataset", "data": None}
KINDS = {
    "ratings": "ratings",
    "purchases": "positives only, such as purchases: every row is a like",
    "impressions": "impressions: what was shown, and whether it was clicked",
}
WHAT = {  # comments of settings that are no column with examples
    "explode": "columns with lists, one element per interaction",
    "explode_separator": "separator of the elements if lists are text",
    "drop": "rows that are not interactions, by column",
    "unknown_ids": "ids that count as missing",
    "clicked": "1, true or yes: clicked; otherwise only shown",
    "impressions": "how the column of items lists what was shown",
    "click_history": "clicks from before the log, without times",
    "columns": "how much an event counts",
    "timestamp_format": "how times are written",
    "first_day": "times count from the beginning of the log",
    "rating_min": "lowest rating of the scale",
    "rating_max": "highest rating of the scale",
    "long": "one row per property: title and fields name properties",
    "title_choice": "which of the titles that the log has for an item",
    "trailing_articles": "no article is moved to the front of a title",
}


def environment_name(guess: Guess) -> str:
    """Return a name for the environment, from the log's file name."""
    return "-".join(word for word in guess.log.table.name_words if word.isascii()) or "my-log"


def environment_files(guess: Guess, name: str, project: Path, excluded: Sequence[str] = ()) -> dict[str, str]:
    """Return the texts of an environment's files by name; paths inside the project are written relative to it.

    Items whose ids are `excluded` are never recommended. ValueError is raised if a configuration cannot hold a name or
    a value of the tables.
    """
    return {
        "catalog.yml": _catalog(guess, name, project),
        "globals.yml": f"# Where runs on {name} save their results.\n\n"
        f"data: data/{name}  # folder where runs on this data set save their results\n",
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
    log, table = guess.log, guess.log.table
    joined = f" with {table.parts.columns.path.name} by {table.parts.key}" if table.parts is not None else ""
    lines = [("log", f"{table.path.name}{joined}, {_format(table)}: {KINDS[log.kind]}")]
    lines += [("user", _shown(table, log.user)), ("item", _shown(table, log.item))]
    if log.times == [ROW_NUMBER]:
        told_time = "no column has it: row numbers are used, so the rows of each user must be in order"
    else:
        count = ", counted from the beginning of the log" if log.from_zero else f", as {log.time_format}"
        told_time = _shown(table, *log.times) + count
    lines.append(("time", told_time))
    if log.rating is not None:
        low, high = log.scale
        liked = f"{log.threshold:g} or more is a like: {log.likes:.0%} of the sample"
        lines.append(("rating", f"{_shown(table, log.rating)}, {low:g} to {high:g}, {liked}"))
    if log.clicked is not None:
        clicked = positive_mark(table.column(log.clicked))
        lines.append(("clicked", f"{_shown(table, log.clicked)}: {clicked} is a click"))
    for each in log.columns.values():
        lines.append(("weight", f"{_shown(table, each['from'])}: {each.get('weights', 'how much an event counts')}"))
    lines += [("dropped", f"{column}: {_flow(rule)}") for column, rule in log.drop.items()]
    if log.unknown_users:
        lines.append(("no users", f"{log.user}: {', '.join(log.unknown_users)}"))
    read = {each.path: (each, {*log.read}) for each in _tables_of_log(log)}
    for what, described in (("items", guess.items), ("users", guess.users)):
        lines += _told_of(what, described)
        if described is not None:
            read.setdefault(described.table.path, (described.table, set()))[1].update(described.columns)
    for table, names in read.values():
        rest = [name for name in table.sample.columns if name not in names]
        lines += [("not used", f"of {table.path.name}: {', '.join(rest)}")] if rest else []
    lines += [("not used", f"{path.name}: {reason}") for path, reason in guess.unused.items()]
    return [(label, plain(text)) for label, text in (*lines, *log.doubts, *notes(guess))]


def _tables_of_log(log: Log) -> list[RawTable]:
    return [log.table] if log.table.parts is None else [log.table.parts.rows, log.table.parts.columns]


def _told_of(what: str, described: Entities | None) -> list[tuple[str, str]]:
    if described is None:
        return [(what, "no table: ids are shown as titles" if what == "items" else "no table")]
    table = described.table
    place = "in the log" if described.in_log else f"{table.path.name}, {_format(table)}"
    share = "" if described.in_log else f": {described.share:.0%} of the log's"
    lines = [(what, f"{place}, by {_shown(table, described.key)}{share}")]
    if what == "items":
        shown = described.title
        if described.title is not None and described.long is None:
            shown = _shown(table, described.title) + ", which items share" * described.shares_titles
        lines.append(("title", shown or "no column: ids are shown"))
    fields = [
        each["name"] + (f" (separator {each['separator']!r})" if "separator" in each else "")
        for each in described.fields
    ]
    return [*lines, ("fields", ", ".join(fields))] if fields else lines


def _shown(table: RawTable, *names: str) -> str:
    """Return the names of columns, each with some of its values."""
    return " and ".join(f"{name} ({examples(table.column(name), 2)})" for name in names)


def _format(table: RawTable) -> str:
    form = table.form
    if form.kind != "csv":
        return {"ndjson": "lines of JSON"}.get(form.kind, form.kind)
    encoding = "" if form.encoding == "utf-8" else f", {form.encoding}"
    return f"separator {form.separator!r}{encoding}{'' if form.header else ', without a header'}"


# ---- as YAML, by one template

Comment = Callable[[tuple[str, ...], Any], str]
"""Returns the comment beside a value, by its path; empty if there is none."""
INLINE = ("unknown_ids", "impressions", "click_history", "long", "format")


def _yaml(block: Mapping[str, Any], comment: Comment, path: tuple[str, ...] = ()) -> list[str]:
    """Return the lines of a block: nested blocks and lists of blocks below one another, all else on one line."""
    lines, indent = list[str](), "  " * len(path)

    def add(text: str, place: tuple[str, ...], value: Any) -> None:
        told = plain(comment(place, value))
        lines.append(f"{indent}{text}  # {told}" if told else f"{indent}{text}")

    for key, value in block.items():
        place = (*path, str(key))
        is_nested = len(path) < 2 or key in ("drop", "columns")
        if isinstance(value, Mapping) and value and is_nested and key not in INLINE:
            add(f"{_flow(key)}:", place, value)
            lines += _yaml(value, comment, place)
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            add(f"{_flow(key)}:", place, value)
            for each in value:
                add(f"  - {_flow(each)}", (*place, "-"), each)
        else:
            add(f"{_flow(key)}: {_flow(value)}", place, value)
    return lines


def _flow(value: Any) -> str:
    """Return a value as one line of YAML; raise Fault for one that YAML would take for an interpolation."""
    if "${" in str(value):
        found = "has '${', which would begin a reference in a configuration file"
        raise Fault(repr(str(value)), found, advice="Rename it in the file")
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=float("inf"), allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def _comments(guess: Guess) -> Comment:
    """Return the comments of both files: what a setting is, or examples of the columns that it names."""
    log = guess.log
    described = {"items": guess.items, "users": guess.users}
    tables = {"interactions": log.table} | {k: each.table for k, each in described.items() if each is not None}
    what = WHAT | {"label_threshold": f"lowest rating that is a like: {log.likes:.0%} of the sample"}
    liked = "what was clicked" if log.kind == "impressions" else "every row"
    lacking = {"title": "no titles: ids are shown", "rating": f"no ratings: {liked} is a like", "users": "no table"}

    def comment(path: tuple[str, ...], value: Any) -> str:
        key, parent = path[-1], path[-2] if len(path) > 1 else ""
        if value is None:
            return lacking.get(key, "")
        if parent == "ingestion" and key in ("interactions", "items", "users"):
            return f"columns of raw_{key}"
        if value == ROW_NUMBER:
            return "the row number, because no column has the time: rows of each user must be in order"
        if path == ("raw_interactions", "key"):
            return "column that both tables have"
        if path[0] == "ingestion" and len(path) < 4 and key in what:
            return what[key]
        table = next((tables[name] for each in path[:2] if (name := each.removeprefix("raw_")) in tables), None)
        if table is None:
            return ""
        named = value.get("from", value.get("column")) if isinstance(value, Mapping) else value
        names = [name for name in (named if isinstance(named, list) else [named]) if name in table.sample.columns]
        if not names and parent in ("columns", "drop") and key in table.sample.columns:
            names = [key]
        limit = 6 if key == "rating" or parent == "drop" else 2
        return " and ".join(examples(table.column(name), limit) for name in names)

    return comment


def _catalog(guess: Guess, name: str, project: Path) -> str:
    log, parts = guess.log, guess.log.table.parts
    described = {"raw_items": guess.items, "raw_users": guess.users}
    tables = [*_tables_of_log(log), *(each.table for each in described.values() if each is not None)]
    names = ", ".join(dict.fromkeys(plain(table.path.name) for table in tables))
    lines = [
        f"# {name}: how to read {names}, as guessed by `kedro new-log`; correct what is wrong.",
        f"#   kedro run --env {name}",
        "#",
        "# Files: write here where you got them, and their terms.",
        "# conf/base/catalog_ingestion.yml has examples of other kinds of tables.",
    ]
    types = _types(log.table, log.read)
    numbered = {"row_number": ROW_NUMBER} if log.times == [ROW_NUMBER] else {}
    if parts is None:
        entries = {"raw_interactions": _entry(log.table, types, project) | numbered}
    else:
        of_rows = {column: kind for column, kind in types.items() if column in parts.rows.sample.columns}
        of_columns = {column: kind for column, kind in types.items() if column not in of_rows}
        of_keys = [_types(each, [parts.key]) for each in (parts.rows, parts.columns)]
        key = of_keys[0] if of_keys[0] == of_keys[1] else {parts.key: "String"}
        rows = _entry(parts.rows, of_rows | key, project) | numbered
        columns = _entry(parts.columns, of_columns | key, project)
        entries = {"raw_interactions": {"type": KEYED_TABLES, "key": parts.key, "rows": rows, "columns": columns}}
    for entry, each in described.items():
        entries[entry] = NOTHING if each is None else _entry(each.table, _types(each.table, each.columns), project)
    for entry, block in entries.items():
        lines += ["", *_yaml({entry: block}, _comments(guess))]
    return "\n".join(lines) + "\n"


def _entry(table: RawTable, types: Mapping[str, str], project: Path) -> dict[str, Any]:
    path = table.path.resolve()
    place = path.relative_to(project) if path.is_relative_to(project) else path
    form = table.form.model_dump(exclude_defaults=True, mode="json") or {"kind": "csv"}
    return {"type": RAW_TABLE, "filepath": place.as_posix(), "format": form, "columns": dict(types)}


def _types(table: RawTable, names: Iterable[str]) -> dict[str, str]:
    """Return the polars types of columns: those of the file, or of all of their values in delimited text."""
    types = {name: table.exploded.get(name, table.sample.schema[name]) for name in names}
    return {name: f"List,{kind.inner}" if isinstance(kind, pl.List) else str(kind) for name, kind in types.items()}


def _parameters(guess: Guess, name: str, excluded: Sequence[str]) -> str:
    log = guess.log
    head = [
        f"# How {name} differs from conf/base, as guessed by `kedro new-log` from samples; correct what is wrong.",
        "# Other keys keep their values of conf/base, where all keys are explained.",
        "",
    ]
    block = {"ingestion": ingestion_block(guess)}
    text = "\n".join([*head, *_yaml(block, _comments(guess))]) + "\n" + _merged(_defaults(guess))
    if excluded:
        ids = [int(each) if log.table.column(log.item).is_whole else each for each in excluded]
        text += f"\nrecommendation:\n  exclude_items: {_flow(ids)}  # not products: never recommended\n"
    return text


def _defaults(guess: Guess) -> list[str]:
    """Return the blocks that suit the kind of log and what is installed."""
    log, items = guess.log, guess.items
    pairs = log.table.sample.select(log.user, log.item).n_unique()
    more = {
        "short_log": pairs < SHORT and log.kind != "impressions",
        "without_llm": missing_extra("llm", "") is not None,
    }
    of_its_kind = suiting_settings(
        is_rated=log.kind == "ratings",
        has_marks=log.kind == "impressions",
        is_titled=items is not None and items.title is not None,
        has_times=not log.from_zero,
        levels=0 if log.rating is None else log.table.column(log.rating).distinct,
    )
    return [*of_its_kind, *(settings_for(name) for name, is_fit in more.items() if is_fit)]


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


CLONE = Path(__file__).parents[3]
IN_A_CLONE = {
    "conf/base": "conf/base",
    "conf/studies": "conf/studies",
    "conf/logging.yml": "conf/logging.yml",
    ".telemetry": ".telemetry",
    "pyproject.toml": "deploy/pyproject.toml",
}
"""Files and folders of a project, which the wheel has in `CARRIED`, and where a clone and the sources have them."""
OF_EVERY_PROJECT = ("base", "local", "studies")  # folders of `conf`, which are no environments for a log
IGNORED = "data/\nconf/local/\nconf/**/credentials*\n.viz/\n*.log\n*.log.*\n"


def write_project(folder: Path) -> None:
    """Make a folder a project: its configuration, `.telemetry` that consents to none, `.gitignore` and pyproject.toml.

    FileExistsError is raised for a folder that has some of these already.
    """
    if existing := [name for name in ("conf", "pyproject.toml") if (folder / name).exists()]:
        raise FileExistsError(
            f"{folder} is not a Kedro project, but already has a {' and a '.join(existing)}: change to an "
            "empty folder, or to a project."
        )
    sources = {name: CARRIED / name if CARRIED.exists() else CLONE / place for name, place in IN_A_CLONE.items()}
    with atomic_folder(folder / "conf") as draft:
        for name, source in sources.items():
            path = Path(name)
            if path.parts[0] == "conf":
                copy = shutil.copytree if source.is_dir() else shutil.copyfile
                copy(source, draft / path.relative_to("conf"))
        (draft / "local").mkdir()
    if not (folder / ".gitignore").exists():
        (folder / ".gitignore").write_text(IGNORED, encoding="utf-8")
    for name in (".telemetry", "pyproject.toml"):  # the last one makes the folder a project
        shutil.copyfile(sources[name], folder / name)


LEAST_MISSING = 0.001  # share of missing values that is told of
NO_GOODS = lexicon.words_of(
    "postage shipping freight voucher vouchers coupon giftcard fee fees surcharge refund porto versand versandkosten "
    "gutschein envío envio livraison spedizione adjust adjustment"
)
NO_GOODS_PAIRS = frozenset({("gift", "card"), ("gift", "certificate"), ("bad", "debt"), ("service", "charge")})
MOST_WORDS = 4  # of a title that may name postage and the like
MOST_NO_GOODS = 20  # ids that are named


def notes(guess: Guess) -> list[tuple[str, str]]:
    """Return pairs of a label and a sentence, as `description` does, with what to set or do."""
    return [*_missing(guess), *_unread(guess), *_no_goods(guess), *_nearly_equal(guess)]


def _missing(guess: Guess) -> list[tuple[str, str]]:
    log, lines = guess.log, list[tuple[str, str]]()
    kept = {log.rating: "; `ingestion.interactions.rating: null` would count every row as a like instead"}
    for name in [*log.times, log.rating, log.clicked]:
        if name is None or name == ROW_NUMBER:
            continue
        share = log.table.column(name).raw.null_count() / max(log.table.sample.height, 1)
        if share >= LEAST_MISSING:
            dropped = "ingestion drops such rows, up to the share `ingestion.max_missing`"
            text = f"{name}: missing in {share:.1%} of the sample; {dropped}{kept.get(name, '')}"
            lines.append(("missing", text))
    return lines


def _unread(guess: Guess) -> list[tuple[str, str]]:
    """Tell of columns that may be the ratings or the time of a log that has neither."""
    log, lines = guess.log, list[tuple[str, str]]()
    for column in log.table.columns:
        if column.name in log.read:
            continue
        shown = f"{column.name} ({examples(column, 2)})"
        is_named = column.words & (lexicon.RATING | lexicon.CLICK) and (column.distinct > 1 or column.raw.null_count())
        if log.kind == "purchases" and is_named:
            text = "every row is a like; if it has ratings, set `ingestion.interactions.rating` or `clicked`"
            lines.append(("rating?", f"{shown} is not read: {text}"))
        if log.from_zero and is_named_time(column) and column.is_text:
            text = "set `ingestion.interactions.timestamp_format`, or write times as 2022-01-31 23:59:00"
            lines.append(("time?", f"{shown} has no known format: {text}"))
    return lines


def no_goods(guess: Guess) -> dict[str, str]:
    """Return ids of items of a log of purchases that may be postage, vouchers and the like, with their titles."""
    log, items = guess.log, guess.items
    if log.kind != "purchases" or log.explode or (items is not None and items.long is not None):
        return {}
    if items is not None and items.title is not None and items.title != items.key:
        named = items.table.sample.select(id=items.key, title=items.title)
    else:
        named = log.table.sample.select(id=log.item, title=log.item)
    rows = named.cast(pl.String).drop_nulls().unique("id", keep="first", maintain_order=True).iter_rows()
    found = {identifier: title for identifier, title in rows if _may_be_no_good(title)}
    return dict(islice(found.items(), MOST_NO_GOODS))


def _may_be_no_good(title: str) -> bool:
    words = [word for word in tokens(title) if not word.isdigit()]
    return len(words) <= MOST_WORDS and bool(NO_GOODS & {*words} or NO_GOODS_PAIRS & {*pairwise(words)})


def ask_of_no_goods(guess: Guess, ask: AskUser) -> list[str]:
    """Return ids of items to exclude from recommendations: those that an answer names of what may be no goods."""
    found = no_goods(guess)
    if not found:
        return []
    shown = "".join(f"\n  {each}" + f": {plain(title)}" * (each != title) for each, title in found.items())
    question = f"Which of these items are not products? Type their ids, separated by commas.{shown}\n"
    answers = [each.strip() for each in ask(question, [], NONE).split(",")]
    return [each for each in answers if each in found]


def _no_goods(guess: Guess) -> list[tuple[str, str]]:
    found = no_goods(guess)
    shown = ", ".join(each if each == title else f"{each} ({title})" for each, title in found.items())
    advice = "may be recommended; list them in `recommendation.exclude_items` if they are not products"
    return [("products?", f"{shown}: {advice}")] if found else []


def _nearly_equal(guess: Guess) -> list[tuple[str, str]]:
    """Tell of ids with accents that are written in two ways, which are two users or two items."""
    lines = []
    for name in (guess.log.user, guess.log.item):
        ids = {*guess.log.table.column(name).ids}
        twins = sorted(each for each in ids if not is_normalized("NFC", each) and normalize("NFC", each) in ids)
        if twins:
            text = (
                f"{name}: {len(twins)} ids, such as {normalize('NFC', twins[0])}, occur in two encodings of accents "
                "and count as different ids: write the file in one form (NFC)"
            )
            lines.append(("same ids?", text))
    return lines
