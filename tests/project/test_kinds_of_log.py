"""Five rows per user of each kind of log, through `kedro run --env test --pipelines ingestion,history`."""

import polars as pl
import pytest

from kinds_of_log import BEGIN, KINDS, configure
from projects import copy_code, kedro_run

REPORTS = {  # by kind, what the report counts, among others
    "ratings": {"raw interactions": 20, "rating outside 0.5 to 5": 0, "interactions": 20, "positives": 10},
    "purchases": {"raw interactions": 20, "interactions": 20, "positives": 20},
    "impressions": {"raw interactions": 40, "interactions": 40, "positives": 20},
    "nested": {"rows of lists": 4, "raw interactions": 20, "interactions": 20, "positives": 20},
    "SQL": {"raw interactions": 20, "interactions": 20, "positives": 20},
    "NDJSON": {"raw interactions": 20, "user is 3": 5, "interactions": 15, "positives": 7},
}
LIKES = {"ratings": 8, "NDJSON": 6}  # of the samples; else 16, one for each event with an earlier one


@pytest.mark.parametrize("kind", KINDS)
def test_five_rows_per_user_become_a_log_with_its_report(tmp_path, kind):
    configure(project := copy_code(tmp_path), kind)

    catalog = kedro_run(project, pipeline_names=["ingestion", "history"])

    counts = {row["check"]: row["rows"] for row in catalog.load("ingestion_report")}
    assert counts | REPORTS[kind] == counts
    assert not [check for check in counts if "rating" in check and kind not in ("ratings", "NDJSON")]
    interactions = catalog.load("interactions").collect()
    assert interactions["timestamp"].min() == BEGIN
    assert set(interactions["item_id"]) <= set(catalog.load("items")["item_id"])
    samples = catalog.load("log").samples
    assert samples["label"].sum() == LIKES.get(kind, 16)
    both = samples.group_by("split").agg(pl.col("label").n_unique())
    assert dict(both.iter_rows()) == {"train": 2, "validation": 2, "test": 2}
    assert catalog.load("test_questions").height == samples.filter(split="test").height
