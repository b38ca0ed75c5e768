"""Updates, promotion and rollback in a project with a finished run."""

import shutil
import signal

import numpy as np
import polars as pl
import pytest

from dying import update_and_die
from forked import exit_code
from kedro_provenance.failures import RunRefusedError
from projects import catalog_of, copy_project, kedro_command, kedro_run
from reclora_kedro import commands
from reclora_kedro.current_model import model_history
from reclora_kedro.ingestion.config import WITHDRAWN
from reclora_kedro.pipelines.served_project import ServedProject
from reclora_kedro.serving.journal import Journal
from reclora_kedro.serving.journal_databases import SqliteFile
from reclora_kedro.serving.journal_tables import Event, item_row


@pytest.fixture(scope="module")
def updated(finished_run):
    """The project after an update that was killed before and after it named its model; and the tables before.

    It takes 10 s: three updates train a lens, a retriever and an adapter.
    """
    project, before = finished_run.project, {name: finished_run.catalog.load(name) for name in ("items", "users")}
    kedro_run(project, pipeline_names=["candidates"])
    settings = {"update": {"variant": "reclora", "retriever": True}}
    second = 2  # the first model that it saves is what it goes on from
    assert exit_code(update_and_die, project, "champion", second, settings) == -signal.SIGKILL
    [current] = model_history(catalog_of(project))
    assert current["versions"]["lens"] < catalog_of(project).get("lens").resolve_load_version()
    assert exit_code(update_and_die, project, "run_manifest", 1, settings) == -signal.SIGKILL
    kedro_run(project, settings, pipeline_names=["update"])
    return project, before


def test_an_update_leaves_one_whole_model(updated):
    """It takes over 5 s: an update is killed twice, each time in a process of its own, and goes on."""
    project, before = updated
    catalog = catalog_of(project)
    present, killed, first = model_history(catalog)
    assert {name: killed[name] for name in killed if name != "version"} == {
        name: present[name] for name in present if name != "version"
    }
    added = {row["check"]: row["rows"] for row in catalog.load("examination_report")}["interactions added"]
    assert added == catalog.load("interactions").collect().height - finished_rows(catalog, first) > 0
    assert first["decision"] == {"chosen": "newest"}
    assert all(catalog.load(name, version) is not None for name, version in present["versions"].items())
    assert present["versions"]["lens"] == present["made_by"]
    assert present["decision"]["chosen"] in ("champion", "challenger")
    assert present["decision"]["rows"] > 20
    for name in ("items", "users"):
        table = catalog.load(name)
        assert table.height > before[name].height
        assert table.head(before[name].height).equals(before[name])
    log = catalog.load("log")
    assert (log.items.height, log.users.height) == (catalog.load("lens").sizes.items, catalog.load("lens").sizes.users)
    assert "Drama Film 42 (1998)" in log.items["title"]
    splits = dict(log.samples["split"].value_counts().iter_rows())
    assert splits["validation"] > 20 < splits["test"]


def finished_rows(catalog, current):
    return catalog.load("interactions", current["versions"]["interactions"]).collect().height


def test_an_adapter_goes_on_with_the_lens(updated):
    project, _ = updated
    catalog = catalog_of(project)
    log, [present, *_] = catalog.load("adapter_update_log"), model_history(catalog)
    assert log["safeguard"].unique(maintain_order=True).to_list() == [
        "start",
        "none",
        "replay",
        "proximal",
        "short_term",
    ]
    assert present["decision"]["adapter"]["rows"] == catalog.load("update_questions").filter(use="test").height
    assert present["versions"]["reclora.adapter"] == present["made_by"]


def test_recommendation_reads_the_current_model_and_rollback_the_one_before(updated, monkeypatch):
    project, _ = updated
    sources = ["popularity", "item_knn", "linear", "retriever"]
    found = {"recommendation": {"variant": None, "sources": sources, "method": "fusion", "order": "candidates"}}
    catalog = kedro_run(project, found, pipeline_names=["recommendation"])
    assert catalog.load("retriever").sizes.items == catalog.load("log").items.height
    assert catalog.load("recommendations")["user_id"].n_unique() == catalog.load("log").users.height
    users = len(catalog.load("recommendations")["user_id"].unique())
    served = ServedProject(project, "test", {})
    monkeypatch.chdir(project)
    alias, _ = served.roll_back()  # as the service does, by the same pipeline
    present, *_, first = model_history(catalog_of(project))
    assert alias == present["version"]
    assert present["versions"] == first["versions"]
    catalog = kedro_run(project, {"recommendation": {"variant": None}}, pipeline_names=["recommendation"])
    assert catalog.load("recommendations")["user_id"].n_unique() < users
    assert served.chosen_by() == (alias, catalog.get("candidate_choice").resolve_load_version())
    with pytest.raises(ValueError, match="no earlier model"):
        kedro_run(project, pipeline_names=["rollback"])


def test_the_same_news_again_change_nothing(updated):
    """It takes 6 s: two updates are examined."""
    project, _ = updated
    before = {name: catalog_of(project).load(name) for name in ("interactions", "items", "users", "log", "lens")}
    kedro_run(project, pipeline_names=["update"])
    kedro_run(project, pipeline_names=["update"])
    catalog = catalog_of(project)
    assert catalog.load("interactions").collect().equals(before["interactions"].collect())
    for name in ("items", "users"):
        assert catalog.load(name).equals(before[name])
    present, before_it, *_ = model_history(catalog)
    assert present["versions"] == before_it["versions"]


def test_new_items_are_read_by_the_encoder_that_read_those_of_the_current_model(tmp_path):
    """Not by one that was tuned since: vectors of two encoders do not compare.

    It takes 6 s: two encoders are tuned, each before an update.
    """
    project = copy_project(tmp_path)
    tuned = {"history": {"item_embedding": {"encoders": ["tuned_item_encoder"]}}, "update": {"variant": None}}
    first = newest_encoder(kedro_run(project, tuned, to_outputs=["lens"]))
    kedro_run(project, tuned, pipeline_names=["update"])
    assert newest_encoder(kedro_run(project, {"item_encoder": {"layers": None}}, pipeline_names=["encoders"])) != first
    catalog = kedro_run(project, tuned, pipeline_names=["update"])
    assert {record["versions"]["tuned_item_encoder"] for record in model_history(catalog)} == {first}
    read = catalog.stored("item_embeddings").recipe.inputs["champion.tuned_item_encoder"]
    assert read != catalog.stored("tuned_item_encoder").content  # the newest
    shutil.rmtree(project / "data/test/06_models/champion.json")
    with pytest.raises(RunRefusedError, match=r"has changed in between.*tuned_item_encoder with"):
        kedro_run(project, tuned, pipeline_names=["update"])  # the first model would be of two encoders


def test_items_that_were_sent_to_the_service_are_in_the_next_model_and_no_event_is(tmp_path, monkeypatch):
    """It takes 12 s: two updates, the second of which has nothing to do."""
    project = copy_project(tmp_path)
    settings = {"recommendation": {"variant": None}, "service": {"variant": None}}
    kedro_run(project, settings, pipeline_names=["ingestion", "history", "lens", "recommendation"])
    before = catalog_of(project).load("items")
    known, last = str(before["item_id"][0]), int(catalog_of(project).load("log").last_second)
    journal = Journal(SqliteFile(str(project / catalog_of(project).get("journal").journal)), lambda change: None)
    new = item_row("900", {"title": "Comedy Film <b>9</b> (2001)", "colour": "red"}, last)
    journal.put_items([new, item_row(known, {WITHDRAWN: True}, last)], (), replace=True).result()
    event = Event("e", str(catalog_of(project).load("users")["user_id"][0]), "900", 5.0, last + 9)
    assert journal.add([event]).result().stored == 1
    accepted = {"update": {"variant": None, "accept": True}}
    catalog = kedro_run(project, accepted, pipeline_names=["update"])
    items = catalog.load("log").items
    assert items["item_id"][: before.height].equals(before["item_id"])
    row = items.row(by_predicate=pl.col("item_id") == 900, named=True)
    assert (row["title"], row[WITHDRAWN]) == ("Comedy Film 9 (2001)", False)
    assert items.filter(WITHDRAWN)["item_id"].to_list() == [before["item_id"][0]]
    assert "" not in catalog.load("users")["user_id"].cast(pl.String)
    assert catalog.load("interactions").filter(pl.col("item_id") == 900).collect()["timestamp"].to_list() == [last + 9]
    journal.put_items([item_row("901", {"title": "Drama Film 42 (1998)"}, last)], (), replace=True).result()
    journal.close()
    monkeypatch.chdir(project)
    served = ServedProject(project, "test", settings).current_model()
    model = served.with_items([("901", '{"title": "Drama Film 42 (1998)"}')])
    catalog = kedro_run(project, accepted, pipeline_names=["update"])
    assert model.log.items.equals(catalog.load("log").items)
    np.testing.assert_allclose(model.log.item_embeddings, catalog.load("log").item_embeddings, atol=1e-6)


def newest_encoder(catalog):
    return catalog.get("tuned_item_encoder").resolve_load_version()


def test_a_user_is_forgotten_where_a_rollback_took_the_lens_back(updated):
    """It takes 6 s: lists of all users are made anew after rollbacks and a forgotten user."""
    project, before = updated
    users = catalog_of(project).load("users")["user_id"]
    while (
        catalog_of(project).load("champion")["versions"]["users"]
        == catalog_of(project).get("users").resolve_load_version()
    ):
        kedro_run(project, pipeline_names=["rollback"])
    forgotten = users[0]
    catalog = kedro_command(commands.forget, project, {"forget": {"users": [forgotten]}})
    assert (
        catalog.load("lens").sizes.users
        == catalog.load("log").users.height
        == len(users) - 1
        > before["users"].height - 1
    )
    catalog = kedro_run(project, {"recommendation": {"variant": None}}, pipeline_names=["recommendation"])
    assert set(catalog.load("recommendations")["user_id"]) == set(users) - {forgotten}
