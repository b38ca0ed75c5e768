"""A user is forgotten: in what is in use at once, in all that is stored on request, and in weights by training."""

import json
import re
import shutil
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import save_file

from dying import forget_and_die
from forked import exit_code
from kedro_provenance.archive import Archive
from kedro_provenance.files.digests import digest
from kedro_provenance.stores import Store
from projects import catalog_of, kedro_command, kedro_run, stored, type_command
from reclora_kedro import commands
from reclora_kedro.ingestion.forgotten import ForgottenUsers
from reclora_kedro.update.remains import Forgotten

WITH_ROWS = {"interactions", "users", "log", "log_without_embeddings", "lens", "learning_questions", "test_questions"}
WITH_ROWS |= {"learning_states", "test_states", "scores", "reclora.scores", "lens_scores"}
WITHOUT_ROWS = {"items", "item_embeddings", "reclora.adapter", "metrics", "lens_training_log", "reclora.training_log"}


COMMAND = ("forget", "--env", "test", "--params")


def forget(project, user, **settings):
    return kedro_command(commands.forget, project, {"forget": {"users": [user], **settings}})


def holding(project, user):
    """Tables in which a user is."""
    tables = [file for file in (project / "data/test").rglob("*.parquet") if file.is_file()]
    named = [file for file in tables if "user_id" in pl.read_parquet_schema(file)]
    return [file for file in named if user in pl.read_parquet(file)["user_id"].to_list()]


def journal_with(project, user):
    """The service's journal, with an event of a user."""
    journal = project / "data/test/01_raw/service/journal.sqlite"
    journal.parent.mkdir(parents=True)
    with closing(sqlite3.connect(journal)) as service:
        service.executescript(
            "CREATE TABLE events (sequence INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL UNIQUE, "
            "user_id TEXT NOT NULL, item_id TEXT NOT NULL, rating REAL, timestamp INTEGER NOT NULL, request_id TEXT);"
            "CREATE TABLE dropped_users (user_id TEXT PRIMARY KEY, timestamp INTEGER NOT NULL);"
            f"INSERT INTO events VALUES (1, 'a', '{user}', '50', 4, 9, NULL);"
        )
    return journal


def events_in(journal):
    with closing(sqlite3.connect(journal)) as service:
        return service.execute("SELECT count(*) FROM events").fetchone()[0]


def plant(project, catalog, user):
    """What a project keeps beside its versions, and which names a user."""
    lens = Path(catalog.get("champion.lens")._get_load_path()).parent
    shutil.copytree(lens, project / "mlruns/1/lens")  # as MLflow's artefacts
    (project / "mlruns/1/page.html").write_text(f"<h2>Recommended to user {user}</h2>")
    (project / "kedro.log.1").write_text(f"recommendation.users=[{user}]")
    (project / "data/test/saved.jsonl").write_text(json.dumps({"user": str(user)}))
    (project / "outside").mkdir()
    pl.DataFrame({"user_id": [user]}).write_csv(project / "outside/lists.csv")
    address = f"sqlite:///{project}/lists.db"
    pl.DataFrame({"user_id": [user]}).write_database("lists", address)
    pl.DataFrame({"key": ["users"], "value": [f"[{user}]"]}).write_database(
        "p", f"sqlite:///{project}/mlruns/tracked.db"
    )
    entries = {
        "lists_of_a_shop": {"type": "pandas.SQLTableDataset", "table_name": "lists", "credentials": {"con": address}},
        "lists_of_friends": {"type": "polars.CSVDataset", "filepath": "outside/lists.csv"},
    }
    (project / "conf/test/catalog_shop.yml").write_text(json.dumps(entries))


def newest_certificate(project):
    return json.loads(max((project / "data/test/08_reporting/forgetting").iterdir()).read_text())


def test_a_user_is_forgotten(finished_run):
    """It takes 20 s: forgetting is one story of nine runs, three of which are refused and one of which is killed."""
    project, before = finished_run.project, finished_run.catalog
    users, lines = before.load("users")["user_id"].to_list(), before.load("recommendations_csv")
    user = users[3]
    journal = journal_with(project, user)
    save_file({"linear/weights": np.ones(2)}, project / "data/test/07_model_output/learned_weights.safetensors")
    files = {path: content for path, content in stored(project).items() if "champion.json" not in path.parts}
    with pytest.raises(ValueError, match=r"forget.users\[0\] is an id that is in no stored version"):
        forget(project, 77777)
    assert exit_code(type_command, project, *COMMAND, f"forget.users=[{user},77777]") == 1  # which erases nothing
    assert events_in(journal) == 1
    refused = stored(project)
    assert {path: refused[path] for path in files} == files
    assert {path.name for path in refused.keys() - files.keys()} == {"champion.json"}  # of what is in use
    files = refused
    too_few = {"forget": {"users": [user], "retrain": True}, "history": {"prompt_rows": {"few_shot": 9999}}}
    with pytest.raises(ValueError, match=r"prompt_rows\.few_shot requests 9999 rows"):
        kedro_command(commands.forget, project, too_few)
    assert stored(project) == files

    assert exit_code(type_command, project, *COMMAND, f"forget.users=[{user}]") == 0
    after, logged = catalog_of(project), (project / "kedro.log").read_text()
    assert logged.count("Pipeline execution completed") == 1
    assert "forget.users[1] is an id that is in no stored version" in logged
    assert "77777" not in logged
    assert not re.findall(rf"""[\[('"=]{user}[\]),'"].*""", logged)  # as in [4] or '4'; a 4 alone may be a count
    assert events_in(journal) == 0
    assert not after.load("learned_weights")
    listed = after.load("recommendations_csv")
    assert listed.equals(lines.filter(pl.col("user_id") != str(user)))
    assert listed.height < lines.height
    assert after.load("users")["user_id"].to_list() == [other for other in users if other != user]
    assert after.load("log").users.height == after.load("lens").sizes.users == len(users) - 1
    report, current = after.load("forget_report"), after.load("champion")["versions"]
    assert report["forgotten"] == 1
    forgotten = ForgottenUsers.from_table(after.load("users_to_drop"))
    assert [each for each in (77777, *users) if each in forgotten] == [user]
    rows = {each["entry"] for each in report["rows"]}
    assert rows > WITH_ROWS
    assert not rows & WITHOUT_ROWS
    traces = {"lens", "reclora.adapter", "shared_lora.adapter", "candidate_choice"}
    assert {each["entry"] for each in report["traces"]} == traces
    assert report["rows"][-1]["entry"] in ("interactions", "users", "log", "log_without_embeddings")  # tables last
    assert {current[name] for name in ("log", "lens", "users")} == {after.stored("log").run}
    new = {path: content for path, content in stored(project).items() if path not in files and path.suffix == ".json"}
    forgotten = Forgotten(frozenset({str(user)}))
    assert not [path for path, content in new.items() if forgotten.in_records(json.loads(content))]
    assert after.load("run_manifest")["parameters"]["forget"] == {"erase": False, "lens": True, "retrain": False}

    assert exit_code(forget_and_die, project, user, 9) == -signal.SIGKILL
    half_erased = list(project.glob("data/test/**/.unfinished*/*"))
    assert half_erased
    assert holding(project, user)
    versions = Archive(catalog_of(project), [Store(str(project / "data/test/02_intermediate/study"))]).versions()
    assert all(version.stored.is_intact for version in versions if version.stored)
    plant(project, after, user)
    gone = forget(project, user, erase=True, retrain=True)
    planted = {"kedro.log.1", "mlruns/1/page.html", "mlruns/tracked.db", "outside/lists.csv", "data/test/saved.jsonl"}
    certificate = newest_certificate(project)
    left = {name for name in certificate["still_there"] if "/01_raw/" not in name}
    assert left == planted | {"mlruns/1/lens/provenance.json", "table lists of the entry lists_of_a_shop"}
    removed, in_use = certificate["removed"], gone.load("champion")["versions"]
    assert {"interactions", "scores", "lens"} <= {each["entry"] for each in removed}
    assert all(each["content"] for each in removed if each["version"])
    made_again = {each["entry"]: each for each in certificate["made_again"]}
    assert {name: each["version"] for name, each in made_again.items()} == in_use == certificate["versions_in_use"]
    assert made_again["users"]["digest_after"] == gone.stored("users").content
    assert (certificate["users"], certificate["finished"], certificate["erase"]) == (1, True, True)
    said = certificate.pop("digest_of_the_above")
    assert said == digest(certificate)
    assert gone.load("forget_report")["rows"]
    assert not any(folder.exists() for folder in half_erased)
    assert not holding(project, user)
    assert kedro_run(project, pipeline_names=["recommendation"]).load("recommendations").height
    again = forget(project, user)  # which is known by its digest alone
    assert again.load("forget_report") == {"forgotten": 1, "rows": [], "traces": []}
    assert again.load("interactions").collect().equals(after.load("interactions").collect())

    ingested = kedro_run(project, pipeline_names=["ingestion"])  # of raw tables that still have the user
    assert ingested.load("users")["user_id"].to_list() == [other for other in users if other != user]
    kedro_run(project, {"forget": {"users": [user]}}, pipeline_names=["readmit"])
    assert kedro_run(project, pipeline_names=["ingestion"]).load("users")["user_id"].to_list() == users
