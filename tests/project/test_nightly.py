"""What docs/guides/nightly.md shows: lists of a database's orders, in a table of that database, night after night."""

import re
import sqlite3

import pytest
import yaml
from kedro.io import DataCatalog

from projects import ROOT, copy_code, kedro_run
from reclora_kedro.ingestion.guess import read_raw_tables
from reclora_kedro.ingestion.guess_tables import guess
from reclora_kedro.new_log.environment import environment_files, write_environment
from shop import shop

GUIDE = (ROOT / "docs/guides/nightly.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"```yaml\n# conf/your-shop/(\w+\.yml)\n(.*?)```", GUIDE, flags=re.DOTALL))
[NEGATIVES] = re.findall(r"```yaml\n# conf/your-shop/parameters.yml, .*?\n(.*?)```", GUIDE, flags=re.DOTALL)
WEEK = "SELECT * FROM orders WHERE bought_at >= (SELECT date(max(bought_at), '-7 days') FROM orders)"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with the environment that new-log wrote, its catalog that of the guide, and a database."""
    project = copy_code(tmp_path_factory.mktemp("nightly"))
    tables = dict(zip(("orders", "products"), shop(), strict=True))
    for name, table in tables.items():
        table.write_csv(project / f"{name}.csv")
        table.write_database(name, f"sqlite:///{project}/shop.db")
    guessed = guess(read_raw_tables([project / f"{name}.csv" for name in tables]), lambda question, answers, it: it)
    files = environment_files(guessed, "your-shop", project)
    parameters = re.sub(r"  negatives:\n    kind: matched.*\n", NEGATIVES, files["parameters.yml"])
    assert NEGATIVES in parameters
    parameters = parameters.replace("[tfidf, sentence_encoder]", "[tfidf]")  # which takes a second
    write_environment(files | {"parameters.yml": parameters} | FILES, project / "conf/your-shop")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOP_DATABASE", f"sqlite:///{project}/shop.db")
        with sqlite3.connect(project / "shop.db") as database:
            database.execute(f"CREATE VIEW orders_of_the_week AS {WEEK}")
        yield project


def night(project, *orders, **arguments):
    """The lists of all users in the database, after orders were added and a run has ended."""
    with sqlite3.connect(project / "shop.db") as database:
        database.executemany("INSERT INTO orders VALUES (?, ?, ?)", orders)
    kedro_run(project, env="your-shop", **arguments)
    return listed(project)


def listed(project):
    with sqlite3.connect(project / "shop.db") as database:
        rows = database.execute("SELECT user_id, item_id FROM recommendations ORDER BY user_id, rank").fetchall()
    return {user: [item for other, item in rows if other == user] for user, _ in rows}


def versions(project):
    return sorted((project / "data/your-shop/07_model_output/recommendations.parquet").iterdir())


def test_lists_of_a_database_are_in_its_table_and_follow_new_orders(project):
    """It takes 15 s, of four nights."""
    first = night(project, only_missing_outputs=True)
    assert len(first) == 60
    assert {len(items) for items in first.values()} == {10}

    made = versions(project)
    assert night(project, only_missing_outputs=True) == first
    assert versions(project) == made  # nothing ran

    orders = [("K0", first["K0"][0], "2020-11-27 09:00:00.000000"), ("K99", "sku-24", "2020-11-27 09:00:01.000000")]
    second = night(project, *orders, only_missing_outputs=True)
    assert second.keys() == {*first, "K99"}
    assert first["K0"][0] not in second["K0"]

    orders = [("K0", second["K0"][0], "2020-11-28 09:00:00.000000"), ("K98", "sku-24", "2020-11-28 09:00:01.000000")]
    assert night(project, *orders, pipeline_names=["update"]) == second
    third = night(project, pipeline_names=["recommendation"])
    assert third.keys() == {*second, "K98"}
    assert second["K0"][0] not in third["K0"]


def test_another_project_reads_the_newest_lists_or_makes_its_own(project):
    """What docs/guides/kedro-teams.md shows: an entry in a catalog of one's own, and a node with a `Recommender`."""
    teams = (ROOT / "docs/guides/kedro-teams.md").read_text(encoding="utf-8")
    [entry] = re.findall(r"```yaml\n# catalog.yml .*?\n(.*?)```", teams, flags=re.DOTALL)
    [nodes, _pipeline] = re.findall(r"```python\n# pipelines/.*?\n(.*?)```", teams, flags=re.DOTALL)
    [parameters] = re.findall(r"```yaml\n# parameters.yml .*?\n(.*?)```", teams, flags=re.DOTALL)
    catalog = DataCatalog.from_config(yaml.safe_load(entry.replace("../recommender", str(project))))
    lists = catalog.load("recommendations")
    assert lists.height == len(listed(project)) * 10

    exec(nodes, module := {})
    orders, products = (table.to_pandas() for table in shop())
    made = module["recommend"](orders, products, **yaml.safe_load(parameters))
    assert made["user_id"].nunique() == 60
    assert {"item_id", "title", "because"} <= {*made.columns}
