"""Which stored versions still hold something of a user."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import save_file

from kedro_provenance.archive import ArchivedVersion
from kedro_provenance.lineage import Ancestor, remembered
from kedro_provenance.recipe import Recipe, StoredVersion, read_version
from reclora_kedro.pipelines.forget.nodes import show_remains
from reclora_kedro.update import remains
from reclora_kedro.update.config import ForgetConfig
from reclora_kedro.update.remains import (
    Forgotten,
    files_of,
    files_that_name,
    find_remains,
    models_that_name,
    remains_table,
    sources_of,
    stored_users,
)
from terminal import printed


@dataclass(frozen=True)
class Stored:
    """A version of an entry, made of some contents and of raw entries, or by an update of an earlier content."""

    entry: str
    content: str
    address: str = "absent"
    sources: tuple[str, ...] = ()
    updates: str | None = None
    layer: str = "models"
    version: str | None = "1"
    parameters: dict | None = None
    told: bool = True
    options: dict = field(default_factory=dict)

    @property
    def stored(self):
        return SimpleNamespace(recipe=self.parameters and SimpleNamespace(parameters=self.parameters))

    def comes_from(self, contents, earlier=None):
        if not self.told:
            return None
        met, ends = set(self.sources) & set(contents), set(self.sources) - set(contents)
        if earlier is not None and self.updates:
            if self.updates not in earlier:
                return met, ends | {f"champion.{self.entry}"}
            more = earlier[self.updates][0].comes_from(contents, earlier)
            met, ends = met | more[0], ends | more[1]
        return met, ends


@pytest.fixture(autouse=True)
def _sources(monkeypatch):
    monkeypatch.setattr(remains, "sources_of", lambda version, *known: version.comes_from(*known))


@pytest.fixture
def stored(tmp_path):
    def with_table(entry, content, **columns):
        folder = tmp_path / content
        folder.mkdir()
        pl.DataFrame(columns).write_parquet(folder / f"{entry}.parquet")
        return Stored(entry, content, str(folder), ("raw_interactions",))

    def with_report(content, text):
        folder = tmp_path / content
        folder.mkdir()
        (folder / "report.json").write_text(text)
        return Stored("report", content, str(folder), ("users1",), layer="reporting")

    return [
        with_table("users", "users1", user_id=[41, 42]),
        with_table("users", "users2", user_id=[41]),
        with_table("interactions", "interactions1", user_id=[41, 42, 42], item_id=["a", "a", "b"]),
        Stored("log", "log1", sources=("users1",)),
        Stored("log", "log2", sources=("users2",)),
        Stored("lens", "lens1", sources=("users1",)),
        Stored("lens", "lens2", sources=("users2",), updates="lens1"),
        Stored("lens", "lens3", sources=("users2",), updates="erased"),
        Stored("lens", "lens4", sources=("users2",)),
        Stored("reclora.adapter", "adapter1", sources=("users1", "base_llm")),
        Stored("reclora.adapter", "adapter2", sources=("users2", "base_llm")),
        Stored("candidate_choice", "choice1", sources=("users1",)),
        Stored("scores", "scores1", sources=("raw_interactions",)),
        Stored("scores", "scores2", told=False),
        Stored("scores", "scores3", sources=("users2",), parameters={"export": {"users": [42]}}),
        Stored("reclora.checkpoints", "", version=None),
        with_report("report1", '[{"check": "rows of user_id 42"}]'),
        with_report("report2", '[{"rows": 42}]'),
        with_table("quarantined_interactions", "quarantine1", user_id=["withheld"]),
        Stored("champion", "champion1", sources=("users1",)),
    ]


def test_rows_and_traces_of_a_user(stored):
    remains = find_remains(stored, Forgotten(frozenset({"42"})))
    rows = [each.content for each in remains.rows]
    assert set(rows) == {"users1", "interactions1", "log1", "lens1", "scores1", "scores2", "scores3", "", "report1"}
    assert rows[-2:] == ["users1", "interactions1"]  # all that is known of others goes by these
    assert {each.content for each in remains.traces} == {"lens2", "lens3", "adapter1", "choice1"}
    assert not find_remains([stored[1], stored[4]], Forgotten(frozenset({"42"}))).rows


def test_ids_of_users_and_of_items_that_they_alone_have(stored):
    assert stored_users(stored, pl.DataFrame({"user_id": ["41", "new"]})) == {"41", "42", "withheld", "new"}
    forgotten = Forgotten.from_versions([42], stored, pl.Series("item_id", ["a", "c"]))
    assert forgotten == Forgotten(frozenset({"42"}), frozenset({"b"}))
    forgotten = Forgotten(frozenset({"none"}), frozenset({"b"}))
    assert [each.content for each in find_remains(stored[:3], forgotten).rows] == ["interactions1"]


def test_models_that_name_what_is_erased(stored):
    history = [{"version": "3", "versions": {"log": "2"}}, {"version": "2", "versions": {"log": "1", "lens": "1"}}]
    models = [replace(stored[-1], version=version) for version in "321"]
    assert models_that_name(history, stored[3:4], [*stored[:-1], *models]) == [models[1]]


@pytest.mark.parametrize(
    ("erase", "retrain", "outcome"),
    [
        (
            False,
            False,
            "All are kept: forget.erase=true erases versions with rows; forget.retrain=true trains the weights",
        ),
        (False, True, "All are kept: forget.erase=true erases versions with rows, and weights with traces."),
        (True, False, "Versions with rows are erased; weights stay."),
        (True, True, "Versions with rows, and weights with traces, are erased."),
    ],
)
def test_what_is_left_is_counted_by_entry(erase, retrain, outcome):
    report = {"rows": [{"entry": "log"}, {"entry": "users"}, {"entry": "log"}], "traces": [{"entry": "lens"}]}
    table = printed(remains_table(report, erase=erase, retrain=retrain), width=140)
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in table.splitlines() if line.startswith("│")]
    assert cells == [["lens", "", "1"], ["log", "2", ""], ["users", "1", ""]]
    assert outcome in table
    nothing = printed(remains_table({"rows": [], "traces": []}, erase=erase, retrain=retrain))
    assert nothing == "No stored version has data of the users.\n"


def test_the_ids_that_are_forgotten_are_printed(capsys):
    show_remains({"rows": [], "traces": []}, ForgetConfig(users=("0042", 7), erase=False, retrain=False, lens=False))
    assert capsys.readouterr().out.startswith("Forgotten: '0042', '7'.\n")


def test_all_files_of_a_folder_are_searched_by_their_content(tmp_path):
    contents = {
        "report.html": "<h2>Recommended to user 42</h2>",
        "lists.csv": "user_id,rank\n7,1\n42,1\n",
        "records.json": '[{"user_id": 42}]',
        "answers.jsonl": '{"user": "7"}\n{"user": "42"}\n',
        "run.log.1": "recommendation.users=[7, 42]",
        "other.html": "<p>42 rows of user 7</p>",
        "counts.csv": "item,rows\n1,42\n",
        "torn.json": "{",
        "lists.csv.gz": "",
        "user_42/adapter_config.json": "{}",
        "copy/provenance.json": '{"content": "1f", "recipe": {}}',
    }
    for name, text in contents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    pl.DataFrame({"user_id": [42]}).write_ipc(tmp_path / "samples.arrow")
    for name, user in (("mlflow.db", 42), ("others.db", 7)):
        with closing(sqlite3.connect(tmp_path / name)) as database:
            database.executescript(
                f"CREATE TABLE params (k, v, n); INSERT INTO params VALUES ('users', '[{user}]', 42)"
            )
    erased = read_version(tmp_path / "copy").content
    found = files_that_name(str(tmp_path), {}, Forgotten(frozenset({"42"})), {erased})
    found = {str(Path(path).relative_to(tmp_path)): text for path, text in found.items()}
    assert found.pop("torn.json") == "cannot be read: JSONDecodeError"
    assert found.pop("lists.csv.gz") == "cannot be read: packed"
    assert found.pop("copy/provenance.json") == "is part of a copy of an erased version"
    named = ["answers.jsonl", "lists.csv", "mlflow.db", "records.json", "report.html", "run.log.1", "samples.arrow"]
    assert sorted(found) == [*named, "user_42/adapter_config.json"]


def test_ids_that_are_no_numbers_are_found_anywhere(tmp_path):
    """In prompts, page sources, plots, heads of tensors and files of unknown kinds, but not in other ids."""
    prompts, others = ({"prompt": [f"What does {name} like?"]} for name in ("ann-7", "ann-70"))
    pl.DataFrame(prompts).write_parquet(tmp_path / "prompts.parquet")
    pl.DataFrame(others).write_parquet(tmp_path / "others.parquet")
    (tmp_path / "plot.json").write_text('{"data": [{"text": ["ann-7 likes"]}]}')
    (tmp_path / "others.json").write_text('{"data": [{"text": ["ann-70 likes"]}]}')
    (tmp_path / "unknown.bin").write_bytes(b"\0\1 ann-7\0")
    save_file({"weights": np.ones(2)}, tmp_path / "lens.safetensors", {"user": "ann-7"})
    found = files_that_name(str(tmp_path), {}, Forgotten(frozenset({"ann-7"})))
    assert sorted(Path(path).name for path in found) == [
        "lens.safetensors", "plot.json", "prompts.parquet", "unknown.bin",
    ]  # fmt: skip


def test_objects_of_a_storage_are_searched(bucket):
    bucket.put("team/lists.csv", b"user_id,rank\n42,1\n")
    bucket.put("team/others.csv", b"user_id,rank\n7,1\n")
    forgotten = Forgotten(frozenset({"42"}))
    for address in (f"{bucket.address}/team", f"{bucket.address}/team/lists.csv"):
        assert files_that_name(address, bucket.options, forgotten) == {
            f"{bucket.address}/team/lists.csv": "names a user"
        }


def test_files_of_a_version_in_a_storage_are_read_one_after_the_other(bucket):
    for name in ("a.json", "b.json", "c.csv"):
        bucket.put(f"lens/1/{name}", name.encode())
    version = Stored("lens", "lens1", f"{bucket.address}/lens/1", options=bucket.options)
    assert [(file.name, file.read_bytes()) for file in files_of(version, ".json")] == [
        ("a.json", b"a.json"), ("b.json", b"b.json")
    ]  # fmt: skip


def test_files_that_name_a_user(tmp_path):
    forgotten = Forgotten(frozenset({"42"}), frozenset({"7"}))
    tables = {
        "rows": ({"user_id": [1, 42]}, True),
        "item": ({"user_id": [1], "item_id": ["7"]}, True),
        "others": ({"user_id": ["4", "2"], "item_id": ["42", None]}, False),
        "no_ids": ({"user_index": [42]}, None),
    }
    for name, (columns, expected) in tables.items():
        pl.DataFrame(columns, strict=False).write_parquet(file := tmp_path / f"{name}.parquet")
        assert forgotten.in_table(pl.scan_parquet(file)) is expected, name


def test_ways_to_what_a_version_was_made_of(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr("kedro_provenance.project.alias_names", lambda: ["production"])

    def version(content, inputs, *lineage):
        parents = tuple(map(remembered, lineage))
        stored = StoredVersion(Recipe(f"make {content}", "", {}, inputs, {}), content, parents=parents)
        return ArchivedVersion(content, "", "", {}, stored)

    raw = Ancestor("raw", "r", place="raw.csv")
    log = version("l", {"raw": "r"}, raw)
    of_log = (raw, log.stored.ancestor("log"))
    model = version("m", {"log": "l"}, *of_log)
    scores = version("s", {"model": "m", "texts": "t"}, *of_log, model.stored.ancestor("model"), Ancestor("texts", "t"))
    assert sources_of(scores, ["l"]) == ({"l"}, {"texts"})
    assert sources_of(scores, []) == (set(), {"raw", "texts"})
    assert sources_of(log, ["l"]) == ({"l"}, set())
    updated = version("u", {"production.model": "m", "log": "k"}, version("k", {}).stored.ancestor("log"))
    assert sources_of(updated, ["l", "k"]) == ({"k"}, set())
    assert sources_of(updated, ["l", "k"], {"m": [model]}) == ({"k", "l"}, set())
    assert sources_of(updated, ["l", "k"], {}) == ({"k"}, {"production.model"})
    copy = version("m", {"production.model": "m", "log": "k"}, version("k", {}).stored.ancestor("log"))
    assert sources_of(copy, ["l", "k"], {"m": [model, copy]}) == ({"k", "l"}, set())
    assert sources_of(copy, ["l", "k"], {"m": [copy]}) == ({"k"}, {"production.model"})  # the copied one is gone
    assert sources_of(ArchivedVersion("old", "", "", {}, StoredVersion(None)), ["l"]) is None
