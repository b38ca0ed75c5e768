"""The drift report of a project whose lists are made by a source of another package."""

from projects import kedro_run

SETTINGS = {
    "recommendation": {
        "sources": ["popularity", "third_party.shelf"],
        "method": "shelf",
        "order": "candidates",
        "variant": None,
    },
    "monitoring": {"reference_days": 4, "period_days": 3, "alarms": {"least": 5}},
}


def test_the_drift_report_measures_its_lists(finished_run):
    catalog = kedro_run(finished_run.project, SETTINGS, pipeline_names=["recommendation", "monitoring"])
    records = catalog.load("drift")
    assert {record["recommends"] for record in records} == {"shelf"}
    assert any(record["hit_rate"] is not None for record in records)
