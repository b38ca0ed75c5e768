"""Guess the log among raw tables, and the tables of its items and users."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path

from reclora_extras.new_log.columns import ID_WORDS, ITEM_WORDS, ORDER_WORDS, USER_WORDS
from reclora_extras.new_log.entities import Entities, items_in_log, read_items, read_users, users_in_log
from reclora_extras.new_log.files import Parts, RawFile, read_file
from reclora_extras.new_log.links import links, names_both_ids, seems_another_log
from reclora_extras.new_log.log import ROW_NUMBER, AskUser, Log, likeliest_id, read_log, repeated_ids


@dataclass(frozen=True)
class Guess:
    """A log, the tables of its items and users, and why other files are neither."""

    log: Log
    items: Entities | None
    users: Entities | None
    unused: dict[Path, str]


def guess(paths: Sequence[Path], ask: AskUser) -> Guess:
    """Guess which table is the log, which tables describe its items and users, and the meaning of their columns.

    Args:
        paths: files of the tables, in any order.
        ask: called where two answers are equally likely.

    Raises:
        UnreadableFileError: a file is no table, or the log has no users or no items.
    """
    files = [read_file(path) for path in paths]
    log_file = max(files, key=_likeness_to_a_log)
    parts = None if _likeness_to_a_log(log_file)[0] else _parts_of_a_log(files)
    log_file = log_file if parts is None else parts.together()
    of_log = {log_file.path} | ({parts.columns.path} if parts is not None else set())
    others = [file for file in files if file.path not in of_log]
    found = links(log_file, others)
    linked = {link.entity: link for link in reversed(found)}  # the first one of several
    log = _named(read_log(log_file, {entity: link.column for entity, link in linked.items()}, ask))
    items = read_items(linked[ITEM_WORDS]) if ITEM_WORDS in linked else None
    users = read_users(linked[USER_WORDS]) if USER_WORDS in linked else None
    items = items or items_in_log(log)
    users = users or users_in_log(log)
    if items is not None and items.in_log and not log.file.has_names and items.title not in (None, log.item):
        log = _renamed(log, {str(items.title): "title"})
        items = replace(items, file=log.file, title="title")
    used = of_log | {table.file.path for table in (items, users) if table is not None}
    describing = {link.table.path for link in found}
    unused = {file.path: _why_unused(log_file, file, describing) for file in others if file.path not in used}
    return Guess(log, _with_names(items, "item_id"), _with_names(users, "user_id"), unused)


def _why_unused(log_file: RawFile, file: RawFile, describing: set[Path]) -> str:
    if file.path in describing:
        return "another table describes the same ids better"
    if seems_another_log(log_file, file):
        return f"it seems to be another log, and {log_file.path.name} is read; write the rows of both to one file"
    return "it has none of the log's ids"


def _likeness_to_a_log(file: RawFile) -> tuple[bool, int, int]:
    return names_both_ids(file), repeated_ids(file), file.sample.height


def _parts_of_a_log(files: Sequence[RawFile]) -> Parts | None:
    """Return lines of orders, which have the items, and the orders, which have the users, joined by order id."""
    for lines, orders in permutations(files, 2):
        item, user = likeliest_id(lines.columns, ITEM_WORDS), likeliest_id(orders.columns, USER_WORDS)
        if item is None or user is None or lines.format != orders.format:
            continue
        for key in orders.columns:
            is_shared = key.name in lines.sample.columns and key.name != user.name
            if is_shared and key.is_id and key.distinct == len(key.values) and key.words & (ORDER_WORDS | ID_WORDS):
                return Parts(lines, orders, key.name)
    return None


def _named(log: Log) -> Log:
    """Return the log with column names, if the file has none."""
    if log.file.has_names:
        return log
    names = {log.user: "user_id", log.item: "item_id", str(log.rating): "rating", str(log.clicked): "clicked"}
    names |= {time: "timestamp" for time in log.times if time != ROW_NUMBER and len(log.times) == 1}
    names |= {name: "event" for name in log.drop if name not in names}
    names |= {log.click_history["column"]: "history"} if log.click_history else {}
    return _renamed(log, {name: new for name, new in names.items() if name in log.file.sample.columns})


def _renamed(log: Log, names: Mapping[str, str]) -> Log:
    return replace(
        log,
        file=log.file.named(names),
        user=names.get(log.user, log.user),
        item=names.get(log.item, log.item),
        rating=names.get(str(log.rating), log.rating),
        clicked=names.get(str(log.clicked), log.clicked),
        times=[names.get(name, name) for name in log.times],
        explode=[names.get(name, name) for name in log.explode],
        drop={names.get(name, name): rule for name, rule in log.drop.items()},
        click_history=log.click_history and log.click_history | {"column": names[log.click_history["column"]]},
    )


def _with_names(table: Entities | None, key: str) -> Entities | None:
    """Return a table with column names, if the file has none."""
    if table is None or table.in_log or table.file.has_names:
        return table
    names = {table.key: key} | ({table.title: "title"} if table.title else {})
    several = len([each for each in table.fields if "separator" in each]) == 1
    names |= {each["column"]: "categories" for each in table.fields if "separator" in each and several}
    fields = [
        each | {"name": names.get(each["column"], each["name"]), "column": names.get(each["column"], each["column"])}
        for each in table.fields
        if "column" in each  # indicators without names tell nothing
    ]
    title = names.get(str(table.title), table.title)
    return replace(table, file=table.file.named(names), key=key, title=title, fields=fields)
