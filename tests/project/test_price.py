"""The trial of the price: the raw log has one more column, and one line of conf is all that names it."""

from contextlib import closing

import polars as pl
import pytest
import yaml

from projects import catalog_of, copy_project, kedro_run
from reclora_kedro.serving.journal import Journal
from reclora_kedro.serving.journal_databases import SqliteFile
from reclora_kedro.serving.journal_tables import Event


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with prices in its raw logs, and with the line that declares them, after a run and an update.

    It takes 5 s: a flow to the adapters, and an update.
    """
    project = copy_project(tmp_path_factory.mktemp("priced"))
    raw = project / "data/01_raw/fabricated"
    for name in ("interactions", "new_interactions"):
        table = pl.read_csv(raw / f"{name}.csv")
        amounts = pl.Series("amount", [None if row % 10 == 3 else 1 + row % 7 / 4 for row in range(table.height)])
        table.with_columns(amounts).write_csv(raw / f"{name}.csv")
    file = project / "conf/test/parameters.yml"
    parameters = yaml.safe_load(file.read_text("utf-8"))
    parameters["ingestion"]["interactions"] = {"columns": {"price": {"from": "amount", "kind": "number"}}}
    file.write_text(yaml.safe_dump(parameters), "utf-8")
    kedro_run(project, pipeline_names=["ingestion", "history", "lens", "finetuning"])
    with closing(
        Journal(SqliteFile(str(project / catalog_of(project).get("journal").journal)), lambda _: None)
    ) as journal:
        sent = Event("bought", "7", "3", 5.0, 1_000_000_000, None, '{"price": 123.5}')
        journal.add([sent]).result()
    kedro_run(project, {"update": {"accept": True}}, pipeline_names=["update"])
    return project


def test_one_line_of_conf_brings_the_price_to_log_lens_and_prompts(project):
    catalog = catalog_of(project)
    assert catalog.load("interactions").collect()["price"].drop_nulls().len() > 1000
    log = catalog.load("log")
    assert [column.name for column in log.sequences.schema.declared] == ["price"]
    assert catalog.load("lens").sizes.event_numbers == ("price",)
    prompts = catalog.load("learning.recent.prompts")
    assert prompts["prompt"].str.contains(r"Film \d+ \(price [\d.]+\)").sum() > prompts.height / 2


def test_an_update_has_the_prices_of_its_table_and_of_the_journal(project):
    log = catalog_of(project).load("interactions").collect()
    assert log.filter(timestamp=1_000_000_000)["price"].to_list() == [123.5]
    late = log.filter(pl.col("timestamp") > log["timestamp"].quantile(0.9))
    assert late["price"].drop_nulls().len() > 0.5 * late.height
