"""Data of forgotten users in stored versions: rows, or traces in trained weights."""

import json
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property, partial
from html import unescape
from itertools import chain
from pathlib import Path
from typing import Any, Self, TypedDict

import polars as pl
from rich.console import Group

from kedro_provenance.archive import ArchivedVersion
from kedro_provenance.files.scratch import scratch_folder
from kedro_provenance.files.storage import download, is_remote, states
from kedro_provenance.lineage import Ancestor
from kedro_provenance.project import is_alias
from kedro_provenance.recipe import FILE, read_version
from reclora_kedro.adapters.saved import user_folder
from reclora_kedro.current_model import ALIAS, ModelInHistory
from reclora_kedro.ingestion.ids import id_text
from reclora_kedro.terminal import text_table

SUMS = ("retriever", "tuned_item_encoder", "prepared_llm", "*.adapter", "candidate_choice")
"""Entries with trained weights that hold only sums over rows of users; without the last one, no service starts."""
TRAINED = ("*lens", "item_embeddings", "user_adapters", *SUMS)
"""Entries with trained weights, which may hold traces of users."""
WITHOUT_ROWS = (*SUMS, "*_log", "*_report", "champion", "versions_to_erase", "forgotten_users")
"""Entries made from rows of users that hold only sums over them, unless they name a user."""
REPORTS = "reporting"  # the layer of further such entries
WITH_USERS = {"raw_interactions", "raw_users", "raw_new_interactions", "raw_new_users", "journal"}
"""Entries with rows of users that no pipeline makes."""
KNOWN_BY = ("users", "new_interactions", "quarantined_interactions")
"""Entries whose users can be forgotten: those of the latter two need not be among the former."""


SCANS: Mapping[str, Callable[[Path], pl.LazyFrame]] = {
    ".parquet": pl.scan_parquet,
    ".arrow": pl.scan_ipc,
    ".csv": partial(pl.scan_csv, infer_schema=False, truncate_ragged_lines=True),
}
TEXTS = (".html", ".txt", ".md", ".log")
# The id of a named user, or those of named users. Both cases are spelled out: IGNORECASE would take five times as long.
NAMED = re.compile(
    r"[uU](?<!\w.)[sS][eE][rR](?=(?:_[iI][dD]| [iI][dD])?['\"]?[ :=]+['\"]?([^\s'\"<>,;]+)"
    r"|[sS]['\"]?[ :=]+\[([^\]]*)\])"
)
PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip", ".tar", ".tgz", ".7z", ".pkl", ".pickle", ".joblib")
"""Suffixes of files whose content cannot be searched."""
SQLITE = b"SQLite format 3\0"
NOT_REACHED = (
    "backups, and versions that an object storage keeps of removed objects",
    "exports and copies that left the folders, databases and storages that were searched",
    "caches of other machines",
    "experiment tracking on a server, and weights of earlier models there",
    "raw tables in databases, which are only read",
    "the history of the terminal in which the id was typed",
)
"""What the command cannot look into."""


@dataclass(frozen=True)
class Forgotten:
    """Identifiers that stored data may no longer contain: ids of users, and of items only they had, as texts."""

    users: frozenset[str]
    items: frozenset[str] = frozenset()

    @classmethod
    def from_versions(cls, users: Iterable[Any], versions: Iterable[ArchivedVersion], items: pl.Series) -> Self:
        ids = frozenset(filter(None, map(id_text, users)))
        return cls(ids, frozenset(items_of(ids, versions) - set(items.cast(pl.String))))

    def in_file(self, file: Path) -> bool:
        """Whether a file names any of them in its tables, records or texts; ValueError if it cannot be searched."""
        if file.suffix in SCANS:
            table = SCANS[file.suffix](file)
            return bool(self.in_table(table)) or self._in_texts_of(table)
        if file.suffix in PACKED:
            raise ValueError(f"{file} is packed.")
        content = file.read_bytes() if file.suffix != ".safetensors" else _safetensors_header(file)
        if content.startswith(SQLITE):
            return self.in_database(file)
        if b"\0" in content:  # neither text nor table
            return bool(self._words) and bool(re.search(self._words.encode(), content))
        text = content.decode(errors="replace")
        if file.suffix == ".json":
            return self.in_records(json.loads(text))
        return self.in_text(unescape(text))

    def in_text(self, text: str) -> bool:
        """Whether a text names a user in words, or has the id of one as a word if that is no number.

        Examples:
            >>> forgotten = Forgotten(frozenset({"42", "ann-7"}))
            >>> [forgotten.in_text(text) for text in ("for user 42.", "user_id=42", "42 rows of user 7", "see ann-7.")]
            [True, True, False, True]
            >>> [forgotten.in_text(text) for text in ('{"user": "42"}', "lists.users [41, '42']", "users: 42")]
            [True, True, False]
            >>> [forgotten.in_text(text) for text in ("USER Id 42", "the user: users [41, 42]", "superuser 42")]
            [True, True, False]
        """
        named = {each.strip(" '\"") for name, ids in NAMED.findall(text) for each in (name, *ids.split(","))}
        if not self.users.isdisjoint({each.rstrip(".:)]}") for each in named}.union(named)):
            return True
        return bool(self._words) and bool(re.search(self._words, text))

    @cached_property
    def _words(self) -> str:
        """A regular expression for the ids that are no numbers, which would be found anywhere; empty without any."""
        names = "|".join(re.escape(user) for user in sorted(self.users) if not user.isdigit())
        return rf"(?<!\w)(?:{names})(?!\w)" if names else ""

    def in_table(self, table: pl.LazyFrame) -> bool | None:
        """Whether a table names any of them in a column of ids; None if it has none."""
        ids = {"user_id": self.users, "item_id": self.items}
        columns = ids.keys() & set(table.collect_schema())
        named = [pl.col(key).cast(pl.String).is_in(sorted(ids[key])).any() for key in columns]
        return table.select(pl.any_horizontal(named)).collect(engine="streaming").item() if named else None

    def _in_texts_of(self, table: pl.LazyFrame) -> bool:
        names = [user for user in self.users if not user.isdigit()]
        texts = [name for name, dtype in table.collect_schema().items() if dtype == pl.String]
        if not names or not texts:
            return False
        has_any = pl.any_horizontal(pl.col(text).str.contains_any(names) for text in texts)
        rows = table.select(texts).filter(has_any).collect(engine="streaming")
        return any(self.in_text(text) for column in rows for text in column.drop_nulls())

    def in_database(self, file: Path) -> bool:
        """Whether a row of a SQLite database names any user."""
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as database:
            for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                rows = database.execute(f'SELECT * FROM "{table}"')
                names = [name for name, *_ in rows.description]
                for row in rows:
                    line = " ".join(str(value) for value in row)  # a key and its value may be two columns
                    if self.in_records(dict(zip(names, row, strict=True))) or self.in_text(line):
                        return True
        return False

    def in_records(self, value: Any, key: str = "") -> bool:
        """Whether JSON values name a user: as a `user_id` or `user`, among `users`, or in a text with these words.

        Examples:
            >>> forgotten = Forgotten(frozenset({"42"}))
            >>> [forgotten.in_records(value) for value in ([{"user_id": 42}], {"users": [7, 42]}, {"users": 42})]
            [True, True, False]
            >>> forgotten.in_records({"check": "rows of user_id 42"})
            True
        """
        if isinstance(value, Mapping):
            return any(self.in_records(each, name) or self.in_records(name) for name, each in value.items())
        if isinstance(value, list | tuple):
            return any(self.in_records(each, f"{key}[]") for each in value)
        if key in ("user_id", "user", "users[]"):
            return str(value) in self.users
        return isinstance(value, str) and self.in_text(value)


def _safetensors_header(file: Path) -> bytes:
    """Return the names and notes of a file of tensors, without the numbers."""
    with file.open("rb") as opened:
        return opened.read(int.from_bytes(opened.read(8), "little"))


@dataclass(frozen=True)
class Remains:
    """Stored versions with data of forgotten users."""

    # With their rows or ids, or values computed from these; tables come last, and interactions last of these, as only
    # they tell whose an item was.
    rows: list[ArchivedVersion]
    traces: list[ArchivedVersion]  # with weights that were, or may have been, trained on their rows


def stored_users(versions: Iterable[ArchivedVersion], journal: pl.DataFrame) -> set[str]:
    """Return the ids, as texts, of the canonical users and those of new interactions and of the service's journal."""
    files = (file for each in versions if each.entry in KNOWN_BY for file in files_of(each, ".parquet"))
    tables = chain([journal], (pl.read_parquet(file, columns=["user_id"]) for file in files))
    return {user for table in tables for user in table["user_id"].unique().cast(pl.String)} - {""}  # of the items sent


def items_of(users: Collection[str], versions: Iterable[ArchivedVersion]) -> set[str]:
    """Return the ids of the items of users in any stored version of the canonical interactions, as texts."""
    items = set[str]()
    for file in (file for each in versions if each.entry == "interactions" for file in files_of(each, ".parquet")):
        rows = pl.scan_parquet(file).filter(pl.col("user_id").cast(pl.String).is_in(sorted(users)))
        items |= set(rows.select(pl.col("item_id").cast(pl.String).unique()).collect(engine="streaming")["item_id"])
    return items


def find_remains(versions: Sequence[ArchivedVersion], forgotten: Forgotten) -> Remains:
    """Return the stored versions with data of users.

    A version with tables of ids is checked itself. Others are judged by the versions that they were made from, and
    count as holding data if these are unknown; so do weights unless they are known not to be trained on their rows.
    """
    names: dict[str, bool] = {}  # by the content of a version with ids, whether it names them
    for version in versions:
        tables = map(pl.scan_parquet, files_of(version, ".parquet"))
        named = [each for table in tables if (each := forgotten.in_table(table)) is not None]
        if named and version.version is not None:
            names[version.content] = any(named)
    rows = [version for version in versions if _holds_rows(version, forgotten, names)]
    rows.sort(key=lambda version: (version.content in names, version.entry == "interactions"))
    earlier: dict[str, list[ArchivedVersion]] = {}
    for version in versions:
        if version.version is not None:
            earlier.setdefault(version.content, []).append(version)
    kept = (version for version in versions if _is_one_of(version, TRAINED) and version not in rows)
    return Remains(rows, [version for version in kept if _was_made_of_rows(version, names, earlier)])


def files_that_name(
    address: str, options: Mapping[str, Any], forgotten: Forgotten, erased: Collection[str] = ()
) -> dict[str, str]:
    """Search a file, or all files of a folder, local or in an object storage.

    Args:
        erased: digests of the contents of erased versions, of which copies are found, too.

    Returns:
        What was found, by path: a user is named, an erased version is copied, or the file cannot be searched.
    """
    found, folders = {}, set(map(user_folder, forgotten.users))  # of exported LoRAs
    for path, file in _files_at(address, options):
        try:
            if file.name == FILE and read_version(file.parent).content in erased:
                found[path] = "is part of a copy of an erased version"
            elif forgotten.in_file(file) or Path(path).parent.name in folders:
                found[path] = "names a user"
        except (OSError, ValueError, pl.exceptions.PolarsError, sqlite3.Error) as error:
            found[path] = f"cannot be read: {'packed' if file.suffix in PACKED else type(error).__name__}"
    return found


def files_of(version: ArchivedVersion, suffix: str) -> Iterator[Path]:
    """Yield the files of a version with this suffix; copies from an object storage last until the next one."""
    yield from (file for path, file in _files_at(version.address, version.options, suffix))


def _files_at(address: str, options: Mapping[str, Any], suffix: str = "") -> Iterator[tuple[str, Path]]:
    if not is_remote(address):
        files = sorted(Path(address).rglob(f"*{suffix}")) if Path(address).is_dir() else [Path(address)]
        yield from ((str(file), file) for file in files if file.is_file())
        return
    for name in (name for name in states(address, options) if name.endswith(suffix)):
        folder, _, file = f"{address}/{name}".rstrip("/").rpartition("/")
        with scratch_folder() as scratch:
            download(folder, options, [file], Path(scratch))
            yield f"{folder}/{file}", Path(scratch, file)


def models_that_name(
    history: Iterable[ModelInHistory], rows: Iterable[ArchivedVersion], versions: Iterable[ArchivedVersion]
) -> list[ArchivedVersion]:
    """Return the versions of the entry `champion` that name any of some versions."""
    named = {(each.entry, each.version) for each in rows}
    old = {model["version"] for model in history if not named.isdisjoint(model["versions"].items())}
    return [each for each in versions if each.entry == ALIAS and each.version in old]


class ForgetReport(TypedDict):
    """The number of forgotten users, and the stored versions with their rows, or with traces of them in weights."""

    forgotten: int
    rows: list[dict[str, Any]]
    traces: list[dict[str, Any]]


def made_again(before: Iterable[ArchivedVersion], in_use: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the versions that the current model names, by entry, with digests of these and of the ones before."""
    existing = sorted((str(each.version), each.entry, each.content) for each in before if each.version)
    earlier = {entry: content for version, entry, content in existing if version < in_use.get(entry, "")}
    return [
        {"entry": entry, "version": version, "digest_before": earlier.get(entry), "digest_after": content}
        for version, entry, content in existing
        if in_use.get(entry) == version
    ]


OUTCOMES = {
    (True, True): "Versions with rows, and weights with traces, are erased.",
    (True, False): "Versions with rows are erased; weights stay.",
    (False, True): "All are kept: forget.erase=true erases versions with rows, and weights with traces.",
    (False, False): "All are kept: forget.erase=true erases versions with rows; forget.retrain=true trains the weights "
    "again.",
}
"""What happens to stored versions, by `forget.erase` and `forget.retrain`."""


def remains_table(report: ForgetReport, *, erase: bool, retrain: bool) -> Group:
    """Tabulate the number of versions of each entry, and what happens to them under the settings."""
    versions = {"rows": report["rows"], "traces": report["traces"]}
    counts = {kind: Counter(each["entry"] for each in versions[kind]) for kind in versions}
    records = [
        {"entry": entry} | {kind: str(counts[kind][entry] or "") for kind in counts}
        for entry in sorted({*counts["rows"], *counts["traces"]})
    ]
    outcome = OUTCOMES[erase, retrain]
    numbers = {"with rows\nof the users": (str, "rows"), "weights\nwith traces": (str, "traces")}
    table = text_table("Stored versions with data of the users", records, {"entry": (str, "entry")}, numbers)
    return Group(table, outcome) if records else Group("No stored version has data of the users.")


def _holds_rows(version: ArchivedVersion, forgotten: Forgotten, names: Mapping[str, bool]) -> bool:
    recipe = version.stored and version.stored.recipe
    if version.version is None or (recipe and forgotten.in_records(recipe.parameters)):
        return True
    if version.content in names:
        return names[version.content]
    if version.layer == REPORTS or _is_one_of(version, WITHOUT_ROWS):
        return any(forgotten.in_file(file) for suffix in (".json", *TEXTS) for file in files_of(version, suffix))
    return _was_made_of_rows(version, names)


def _was_made_of_rows(
    version: ArchivedVersion, names: Mapping[str, bool], earlier: Mapping[str, Sequence[ArchivedVersion]] | None = None
) -> bool:
    if (sources := sources_of(version, names, earlier)) is None:
        return True
    met, ends = sources
    unknown = WITH_USERS | {end for end in ends if end.startswith(("champion.", "previous."))}
    return any(names[content] for content in met) or not ends.isdisjoint(unknown)


def sources_of(
    version: ArchivedVersion, contents: Collection[str], earlier: Mapping[str, Sequence[ArchivedVersion]] | None = None
) -> tuple[set[str], set[str]] | None:
    """Return which of `contents` a version was made from, the first on each path, and the entries where others end.

    Args:
        contents: digests of contents at which a path ends; other paths end at raw data.
        earlier: versions by content, through which paths continue where something was made from an earlier version of
            itself; None skips such inputs. An earlier version may have the same content, as a copy has.
    """
    if version.stored is None or version.stored.recipe is None:
        return None
    ways: dict[str, list[Ancestor]] = {}
    for each in (*version.lineage, version.stored.ancestor(version.entry)):
        ways.setdefault(each.content, []).append(each)
    left, seen, met, ends = [(version.entry, version.content)], set[str](), set[str](), set[str]()
    while left:
        name, content = left.pop()
        if content in seen or (earlier is None and is_alias(name)):
            continue
        seen.add(content)
        if content in contents:
            met.add(content)
            continue
        if earlier and (is_alias(name) or content == version.content):
            for stored in (each.stored for each in earlier.get(content, ()) if each.stored):
                for one in (*stored.lineage, stored.ancestor(name)):
                    ways.setdefault(one.content, []).append(one)
        made = [way.inputs or {} for way in ways.get(content, [])]
        inputs = [each for way in made for each in way.items()]
        if made and all(content in way.values() for way in made):  # only copies are left
            ends |= {name for name, copied in inputs if copied == content and earlier is not None}
        left += inputs
        if not inputs:
            ends.add(name)
    return met, ends


def _is_one_of(version: ArchivedVersion, entries: Iterable[str]) -> bool:
    return any(fnmatchcase(version.entry, entry) for entry in entries)
