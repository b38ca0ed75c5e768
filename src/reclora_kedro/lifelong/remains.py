"""What stored versions still hold of forgotten users: rows, or a trace in trained weights."""

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Protocol, Self

import polars as pl
from rich.console import Group

from reclora_kedro.evaluation.terminal import text_table

TRAINED = (
    "*lens",
    "item_embeddings",
    "retriever",
    "tuned_item_encoder",
    "prepared_llm",
    "*.adapter",
    "user_adapters",
    "merged_loras",
)
"""Entries with trained weights, which keep what training left there."""
WITHOUT_ROWS = (
    "retriever",
    "tuned_item_encoder",
    "prepared_llm",
    "*.adapter",
    "*_log",
    "*_report",
    "champion",
    "versions_to_erase",
    "forgotten_users",
)
"""Entries that are made of rows of users, but hold sums over them alone, unless they name one."""
REPORTS = "reporting"
"""The layer of others of this kind."""
WITH_USERS = {"raw_interactions", "raw_users", "raw_new_interactions", "raw_new_users", "journal"}
"""Entries with rows of users that no pipeline makes."""


class Version(Protocol):
    """A stored version of a catalog entry, or what an interrupted node left, which has no version."""

    @property
    def entry(self) -> str:
        """Name of the entry."""

    @property
    def layer(self) -> str:
        """The layer of the entry."""

    @property
    def version(self) -> str | None:
        """Name of the version."""

    @property
    def address(self) -> str:
        """Where it lies."""

    @property
    def content(self) -> str:
        """Digest of its files."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """What it was made by."""

    def files(self, suffix: str) -> Iterator[Path]:
        """Its files whose names end so."""

    def comes_from(
        self, contents: Collection[str], earlier: Mapping[str, Any] | None = None
    ) -> tuple[set[str], set[str]] | None:
        """Those of some contents that it was made of, and names of what else; None if nothing says so."""


class Archive(Protocol):
    """All that is stored."""

    def versions(self) -> Sequence[Any]:
        """Each `Version`."""

    def require_erasable(self, addresses: Sequence[str], champion: Mapping[str, str]) -> object:
        """Refuse to erase what lies at these addresses if any of it is needed."""


@dataclass(frozen=True)
class Forgotten:
    """Whom stored data may no longer name: ids of users, and of items that they alone had, as texts."""

    users: frozenset[str]
    items: frozenset[str] = frozenset()

    @classmethod
    def of(cls, users: Iterable[Any], versions: Iterable[Version], items: pl.Series) -> Self:
        """These users, and the items that they alone have in what is stored: all of theirs but those that are left."""
        ids = frozenset(map(str, users))
        return cls(ids, frozenset(items_of(ids, versions) - set(items.cast(pl.String))))

    def in_table(self, file: Path) -> bool | None:
        """Whether a parquet file names any of them; None if it has no ids."""
        table, ids = pl.scan_parquet(file), {"user_id": self.users, "item_id": self.items}
        columns = ids.keys() & set(table.collect_schema())
        named = [pl.col(key).cast(pl.String).is_in(sorted(ids[key])).any() for key in columns]
        return table.select(pl.any_horizontal(named)).collect(engine="streaming").item() if named else None

    def in_records(self, value: Any, key: str = "") -> bool:
        """Whether plain data name a user: as a `user_id`, among `users`, or in a text that says so.

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
    """What is left of forgotten users.

    Attributes:
        rows: versions that hold rows or ids of theirs, or what was computed of these; tables come last, and of these
            interactions, which alone tell whose an item was.
        traces: versions with weights that were trained on rows of theirs, as far as anything can tell.
    """

    rows: list[Any]
    traces: list[Any]


def stored_users(versions: Iterable[Version]) -> set[str]:
    """Ids of all users that any stored version of the canonical users has, as texts."""
    files = (file for each in versions if each.entry == "users" for file in each.files(".parquet"))
    return {user for file in files for user in pl.read_parquet(file, columns=["user_id"])["user_id"].cast(pl.String)}


def items_of(users: Collection[str], versions: Iterable[Version]) -> set[str]:
    """Ids of the items that users have in any stored version of the canonical interactions, as texts."""
    items = set[str]()
    for file in (file for each in versions if each.entry == "interactions" for file in each.files(".parquet")):
        rows = pl.scan_parquet(file).filter(pl.col("user_id").cast(pl.String).is_in(sorted(users)))
        items |= set(rows.select(pl.col("item_id").cast(pl.String).unique()).collect(engine="streaming")["item_id"])
    return items


def find_remains(versions: Sequence[Version], forgotten: Forgotten) -> Remains:
    """What is left of users in stored versions.

    A version that has tables with ids says by itself whether it names them. Whether another one holds anything of
    theirs goes by what it was made of; where nothing says that, it counts as holding it. Weights count as trained on
    their rows until they are known not to be.
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


def champions_of(
    history: Iterable[Mapping[str, Any]], rows: Iterable[Version], versions: Iterable[Version]
) -> list[Version]:
    """Versions of the champion that name any of some versions.

    Args:
        history: of each champion its `version`, and the `versions` that it names by entry.
        rows: the versions that may be named.
        versions: all, the champions among them.
    """
    named = {(each.entry, each.version) for each in rows}
    old = {champion["version"] for champion in history if not named.isdisjoint(champion["versions"].items())}
    return [each for each in versions if each.entry == "champion" and each.version in old]


def described(version: Version) -> dict[str, str | None]:
    """What a version is, and where it lies."""
    return {"entry": version.entry, "version": version.version, "address": version.address}


def remains_table(report: Mapping[str, Sequence[Mapping[str, Any]]], *, erase: bool, retrain: bool) -> Group:
    """How many stored versions of each entry a report found, and what becomes of them by the settings of forgetting."""
    counts = {kind: Counter(each["entry"] for each in report[kind]) for kind in ("rows", "traces")}
    records = [
        {"entry": entry} | {kind: counts[kind][entry] or "" for kind in counts}
        for entry in sorted({*counts["rows"], *counts["traces"]})
    ]
    if erase:
        outcome = "Versions with rows are erased" + (
            ", and weights with traces, too." if retrain else "; weights stay."
        )
    else:
        outcome = "All are kept: forget.erase=true erases those with rows"
        outcome += ", and weights with traces." if retrain else "; with forget.retrain=true weights are trained again."
    numbers = {"with rows of the users": (str, "rows"), "weights with traces": (str, "traces")}
    table = text_table("Stored versions that know the users", records, {"entry": (str, "entry")}, numbers)
    return Group(table, outcome) if records else Group("No stored version knows the users.")


def _holds_rows(version: Version, forgotten: Forgotten, names: Mapping[str, bool]) -> bool:
    if version.version is None or forgotten.in_records(version.parameters):
        return True
    if version.content in names:
        return names[version.content]
    if version.layer == REPORTS or _is_one_of(version, WITHOUT_ROWS):
        return any(forgotten.in_records(json.loads(file.read_text("utf-8"))) for file in version.files(".json"))
    return _was_made_of_rows(version, names)


def _was_made_of_rows(
    version: Version, names: Mapping[str, bool], earlier: Mapping[str, Version] | None = None
) -> bool:
    sources = version.comes_from(names, earlier)
    if sources is None:
        return True
    met, ends = sources
    unknown = WITH_USERS | {end for end in ends if end.startswith(("champion.", "previous."))}
    return any(names[content] for content in met) or not ends.isdisjoint(unknown)


def _is_one_of(version: Version, entries: Iterable[str]) -> bool:
    return any(fnmatchcase(version.entry, entry) for entry in entries)
