"""Data of forgotten users in stored versions: rows, or traces in trained weights."""

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Self, TypedDict

import polars as pl
from rich.console import Group

from kedro_provenance.archive import ArchivedVersion
from reclora_kedro.current_model import ALIAS, ModelInHistory
from reclora_kedro.ingestion.ids import id_text
from reclora_kedro.terminal import text_table

SUMS = ("retriever", "tuned_item_encoder", "prepared_llm", "*.adapter", "candidate_choice")
"""Entries with trained weights that hold only sums over rows of users; without the last one, no service starts."""
TRAINED = ("*lens", "item_embeddings", "user_adapters", "merged_loras", *SUMS)
"""Entries with trained weights, which may hold traces of users."""
WITHOUT_ROWS = (*SUMS, "*_log", "*_report", "champion", "versions_to_erase", "forgotten_users")
"""Entries made from rows of users that hold only sums over them, unless they name a user."""
REPORTS = "reporting"
"""The layer of further such entries."""
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
        """Whether a file names any of them, by its suffix and content; False for those that hold no text or table."""
        if file.suffix == ".json":
            return self.in_records(json.loads(file.read_text("utf-8")))
        if file.suffix in SCANS:
            return bool(self.in_table(file))
        if file.suffix in TEXTS:
            return self.in_text(file.read_text("utf-8", errors="replace"))
        return False

    def in_text(self, text: str) -> bool:
        """Whether a text names a user in words, or has the id of one as a word if that is no number.

        Examples:
            >>> forgotten = Forgotten(frozenset({"42", "ann-7"}))
            >>> [forgotten.in_text(text) for text in ("for user 42", "user_id=42", "42 rows of user 7", "see ann-7.")]
            [True, True, False, True]
        """
        named = re.findall(r"\buser(?:_id| id)?[ :=]+['\"]?([^\s'\"<>,;]+)", text, re.IGNORECASE)
        words = (rf"(?<!\w){re.escape(user)}(?!\w)" for user in self.users if not user.isdigit())
        return not self.users.isdisjoint(named) or any(re.search(word, text) for word in words)

    def in_table(self, file: Path) -> bool | None:
        """Whether a parquet, Arrow or CSV file names any of them; None if it has no ids."""
        table, ids = SCANS[file.suffix](file), {"user_id": self.users, "item_id": self.items}
        columns = ids.keys() & set(table.collect_schema())
        named = [pl.col(key).cast(pl.String).is_in(sorted(ids[key])).any() for key in columns]
        return table.select(pl.any_horizontal(named)).collect(engine="streaming").item() if named else None

    def in_records(self, value: Any, key: str = "") -> bool:
        """Whether JSON values name a user: as a `user_id`, among `users`, or in a text with these words.

        Examples:
            >>> forgotten = Forgotten(frozenset({"42"}))
            >>> [forgotten.in_records(value) for value in ([{"user_id": 42}], {"users": [7, 42]}, {"users": 42})]
            [True, True, False]
            >>> forgotten.in_records({"check": "rows of user_id 42"})
            True
        """
        if isinstance(value, Mapping):
            return any(self.in_records(each, name) for name, each in value.items())
        if isinstance(value, list | tuple):
            return any(self.in_records(each, f"{key}[]") for each in value)
        named = [str(value)] if key in ("user_id", "users[]") else re.findall(r"user_id (\S+)", str(value))
        return not self.users.isdisjoint(named)


@dataclass(frozen=True)
class Remains:
    """Stored versions with data of forgotten users."""

    # With their rows or ids, or values computed from these; tables come last, and interactions last of these, as only
    # they tell whose an item was.
    rows: list[ArchivedVersion]
    traces: list[ArchivedVersion]  # with weights that were, or may have been, trained on their rows


def stored_users(versions: Iterable[ArchivedVersion], journal: pl.DataFrame) -> set[str]:
    """Return the ids, as texts, of the canonical users and those of new interactions and of the service's journal."""
    files = (file for each in versions if each.entry in KNOWN_BY for file in each.files(".parquet"))
    tables = chain([journal], (pl.read_parquet(file, columns=["user_id"]) for file in files))
    return {user for table in tables for user in table["user_id"].unique().cast(pl.String)}


def items_of(users: Collection[str], versions: Iterable[ArchivedVersion]) -> set[str]:
    """Return the ids of the items of users in any stored version of the canonical interactions, as texts."""
    items = set[str]()
    for file in (file for each in versions if each.entry == "interactions" for file in each.files(".parquet")):
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
        named = [each for file in version.files(".parquet") if (each := forgotten.in_table(file)) is not None]
        if named and version.version is not None:
            names[version.content] = any(named)
    rows = [version for version in versions if _holds_rows(version, forgotten, names)]
    rows.sort(key=lambda version: (version.content in names, version.entry == "interactions"))
    earlier = {version.content: version for version in versions if version.version is not None}
    kept = (version for version in versions if _is_one_of(version, TRAINED) and version not in rows)
    return Remains(rows, [version for version in kept if _was_made_of_rows(version, names, earlier)])


def files_that_name(folder: Path, forgotten: Forgotten) -> dict[str, str]:
    """Return the files of a folder that name a user, by their paths in it, and those that cannot be read."""
    found = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            if forgotten.in_file(file):
                found[str(file.relative_to(folder))] = "names a user"
        except (OSError, ValueError, pl.exceptions.PolarsError) as error:
            found[str(file.relative_to(folder))] = f"cannot be read: {type(error).__name__}"
    return found


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


def described(version: ArchivedVersion) -> dict[str, Any]:
    """Return the entry, version (None for a file that has none) and address of a stored version."""
    return {"entry": version.entry, "version": version.version, "address": version.address}


OUTCOMES = {
    (True, True): "Versions with rows are erased, and weights with traces, too.",
    (True, False): "Versions with rows are erased; weights stay.",
    (False, True): "All are kept: forget.erase=true erases those with rows, and weights with traces.",
    (False, False): "All are kept: forget.erase=true erases those with rows; with forget.retrain=true weights are "
    "trained again.",
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
    numbers = {"with rows of the users": (str, "rows"), "weights with traces": (str, "traces")}
    table = text_table("Stored versions that know the users", records, {"entry": (str, "entry")}, numbers)
    return Group(table, outcome) if records else Group("No stored version knows the users.")


def _holds_rows(version: ArchivedVersion, forgotten: Forgotten, names: Mapping[str, bool]) -> bool:
    if version.version is None or forgotten.in_records(version.parameters):
        return True
    if version.content in names:
        return names[version.content]
    if version.layer == REPORTS or _is_one_of(version, WITHOUT_ROWS):
        return any(forgotten.in_file(file) for suffix in (".json", *TEXTS) for file in version.files(suffix))
    return _was_made_of_rows(version, names)


def _was_made_of_rows(
    version: ArchivedVersion, names: Mapping[str, bool], earlier: Mapping[str, ArchivedVersion] | None = None
) -> bool:
    sources = version.comes_from(names, earlier)
    if sources is None:
        return True
    met, ends = sources
    unknown = WITH_USERS | {end for end in ends if end.startswith(("champion.", "previous."))}
    return any(names[content] for content in met) or not ends.isdisjoint(unknown)


def _is_one_of(version: ArchivedVersion, entries: Iterable[str]) -> bool:
    return any(fnmatchcase(version.entry, entry) for entry in entries)
