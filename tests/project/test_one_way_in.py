"""A log through every door: `new-log`, a run, Python, HTTP, update, forget.

It has ids of every kind, ties, zones, and declared columns: plays, which `new-log` finds, and shops, by conf alone.
"""

import csv
import json
from datetime import UTC, datetime

import polars as pl
import pytest
import yaml
from click.testing import CliRunner
from starlette.testclient import TestClient

from projects import catalog_of, copy_code, kedro_command, kedro_run
from reclora_kedro import Recommender, cli, commands
from reclora_kedro.pipelines.served_project import ServedProject
from reclora_kedro.serving.app import create_app
from reclora_kedro.serving.metrics import Metrics
from reclora_kedro.serving.service import Service

USERS = [
    "lead",
    "18",
    "018",
    "+18",
    "18.0",
    "1e3",
    "+491701234",
    "@ann",
    "=1+1",
    "-5",
    "None",
    "Łukasz 👩‍🚀",
    "e\u0301",
    "é",
    "u" * 200,
    'user 7; a, "b"',
]
ITEMS = ["-dQw4w9WgXc", "007", "7", "+7", "7.0", "@x", "NaN", "item\u200b", "=SUM(A1)", "0", "ß", "i" * 200]
PADDED = {"lead": " lead", "018": "018\xa0", "7": "\u30007 "}  # as some rows have them
SHOPS = ["=1+1", "NA", "+49 Łódź", "007", None]
HEADER = ["user_id", "item_id", "rating", "timestamp", "plays", "shop"]
TITLES = ["=HYPERLINK(1)", "-1", "plain"]
SMALL = {
    "history": {"min_history": 1, "item_embedding": {"encoders": ["tfidf"], "components": 2}},
    "lens": {"max_epochs": 1},
    "recommendation": {"method": "item_knn", "order": "candidates", "variant": None, "repeat": True, "top_n": 12},
}


NEW = int(datetime(2001, 9, 11, tzinfo=UTC).timestamp())


def second(time):
    return int(datetime.fromisoformat(time).timestamp())


def rows():
    """Every user takes eight items, two of them in one second; times have zones."""
    for user, name in enumerate(USERS):
        for place in range(8):
            item = (user * 5 + place * (1 + user % 3)) % len(ITEMS)
            minute = 8 * user + place - (place == 4)
            hour, zone = (3, "+02:00") if place % 2 else (1, "+00:00")
            time = f"2001-09-{9 + minute // 60:02}T{hour:02}:{minute % 60:02}:40{zone}"
            plays, shop = 1 + (user * 7 + place * 3) % 6, SHOPS[(user + place) % len(SHOPS)]
            yield name, ITEMS[item], 1 + (user + item) % 5, time, plays, shop


def written(folder, name, header, lines):
    with (folder / name).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *lines])
    return str(folder / name)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    padded = [
        (PADDED.get(user, user) if place % 3 else user, PADDED.get(item, item) if place % 2 else item, *rest)
        for place, (user, item, *rest) in enumerate(rows())
    ]
    log = written(folder, "log.csv", HEADER, padded)
    titles = [(item, f"{TITLES[place % 3]} {place}") for place, item in enumerate(ITEMS)]
    return log, written(folder, "items.csv", ["item_id", "title"], titles)


@pytest.fixture(scope="module")
def project(tables, tmp_path_factory):
    """A project with the environment that `new-log` wrote, after a run."""
    project = copy_code(tmp_path_factory.mktemp("project"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        done = CliRunner().invoke(cli.cli, ["new-log", *tables, "--name", "trap", "--yes"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    conf = project / "conf/trap"
    parameters, catalog = (
        yaml.safe_load((conf / f"{name}.yml").read_text(encoding="utf-8")) for name in ("parameters", "catalog")
    )
    declared = parameters["ingestion"]["interactions"]["columns"]
    assert declared == {"plays": {"from": "plays", "kind": "weight"}}
    declared["shop"] = {"kind": "category"}
    catalog["raw_interactions"]["columns"]["shop"] = "String"
    (conf / "parameters.yml").write_text(yaml.safe_dump(parameters), encoding="utf-8")
    (conf / "catalog.yml").write_text(yaml.safe_dump(catalog), encoding="utf-8")
    kedro_run(project, SMALL, env="trap", to_outputs=["recommendations_csv", "lens"])
    return project


def events(catalog):
    table = catalog.load("interactions").collect()
    return sorted(table.select(HEADER).rows(), key=str)


def lists_of(table):
    return sorted(table.select("user_id", "rank", "item_id", "title").rows())


def test_ids_mean_one_thing_at_every_door_and_leave_as_they_came(tables, project, monkeypatch):
    """It takes 8 s: two runs, a service, an update and a forgotten user, in a log of its own."""
    catalog = catalog_of(project, "trap")
    expected = [
        (user, item, float(rating), second(time), float(plays), shop)
        for user, item, rating, time, plays, shop in rows()
    ]
    assert events(catalog) == sorted(expected, key=str)

    declared = {"plays": {"kind": "weight"}, "shop": {"kind": "category"}}
    settings = {"method": "item_knn", "order": "candidates", "encoders": ["tfidf"], "min_history": 1}
    recommender = Recommender.fit(*tables, columns=declared, **settings)
    assert recommender.log.sequences.schema.arrays.keys() >= {"plays", "shop"}
    assert sorted(recommender.log.users["user_id"]) == sorted(USERS)
    assert sorted(recommender.log.items["item_id"]) == sorted(ITEMS)
    listed = lists_of(catalog.load("recommendations"))
    assert {item for _, _, item, _ in listed} == {*ITEMS}
    asked = pl.Series([f" {user}\xa0" for user in USERS], dtype=pl.Categorical)
    assert lists_of(recommender.recommend(asked, n=12, repeat=True)) == listed

    with (project / "data/trap/07_model_output/recommendations.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert sorted((line["user_id"], int(line["rank"]), line["item_id"]) for line in lines) == [
        row[:3] for row in listed
    ]
    assert {line["title"][:3] for line in lines} == {"'=H", "'-1", "pla"}  # as a spreadsheet would compute them

    monkeypatch.chdir(project)
    served = ServedProject(project, "trap", SMALL)
    service = Service(served.settings(), served.current_model, Metrics(), served.forgotten, served.withheld)
    with TestClient(create_app(service), base_url="http://127.0.0.1") as client:
        bodies = [{"user": f"\u2003{user} ", "n": 12, "include_seen": True} for user in USERS]
        answers = client.post("/recommend", json={"requests": bodies}).json()["answers"]
        answered = [
            (answer["user"], entry["rank"], entry["item"], entry["title"])
            for answer in answers
            for entry in answer["items"]
        ]
        assert sorted(answered) == listed
        new = [
            {"user": f" {user}", "item": f"{ITEMS[0]}\xa0", "rating": 5, "time": NEW, "plays": 7, "shop": " +49 Łódź "}
            for user in ("lead", "+44")
        ]
        assert client.post("/events", json={"events": new}).json()["unknown_items"] == []
        assert client.get("/users/lead").json()["events"] == 9
        shown = client.get("/users/%2B44").json()
        assert (shown["events"], shown["latest"][0]["plays"], shown["latest"][0]["shop"]) == (1, 7, "+49 Łódź")

    news = [
        ("\u3000lead", "7\xa0", 4, "2001-09-12T00:00:00Z", 2, " 007"),
        ("018", "+8", 4, "2001-09-12T00:00:00Z", 3, ""),
    ]
    file = written(project, "news.csv", HEADER, news)
    entry = {"type": "polars.CSVDataset", "filepath": file, "load_args": {"infer_schema": False}}
    (project / "conf/trap/catalog_update.yml").write_text(json.dumps({"raw_new_interactions": entry}))
    updated = kedro_run(project, SMALL, env="trap", pipeline_names=["update"])
    added = [(user, ITEMS[0], 5.0, NEW, 7.0, "+49 Łódź") for user in ("lead", "+44")]
    midnight = second("2001-09-12T00:00:00Z")
    added += [("lead", "7", 4.0, midnight, 2.0, "007"), ("018", "+8", 4.0, midnight, 3.0, None)]
    assert events(updated) == sorted(expected + added, key=str)
    assert set(updated.load("users")["user_id"]) == {*USERS, "+44"}

    settings = SMALL | {"forget": {"users": [" +491701234"]}}
    forgotten = kedro_command(commands.forget, project, settings, env="trap")
    assert set(forgotten.load("users")["user_id"]) == {*USERS, "+44"} - {"+491701234"}
    assert set(forgotten.load("recommendations_csv")["user_id"]) == {*USERS} - {"+491701234"}
