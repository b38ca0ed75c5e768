"""Checks of a run's needs, before anything is trained."""

import os

import pytest
from kedro.pipeline import Node, Pipeline

from kedro_provenance.catalog import AtomicCatalog
from reclora_kedro.pipelines import checks
from reclora_kedro.pipelines.checks import require_addresses

PIPELINE = Pipeline([Node(lambda raw: raw, "raw", "made", name="make")])


def catalog(raw, made):
    return AtomicCatalog.from_config(
        {
            "raw": {"type": "json.JSONDataset", "filepath": str(raw)},
            "made": {"type": "json.JSONDataset", "filepath": str(made), "versioned": True},
        }
    )


def test_folders_that_may_not_be_written_and_addresses_that_nobody_reads_are_found_at_once(tmp_path, monkeypatch):
    made = tmp_path / "results" / "made.json"
    made.mkdir(parents=True)
    require_addresses(PIPELINE, catalog(tmp_path / "raw.json", made))
    with pytest.raises(ValueError, match=r"raw: addresses such as simplecache::.* are not read here"):
        require_addresses(PIPELINE, catalog("simplecache::s3://bucket/raw.json", made))
    # Whoever runs as root may write everywhere.
    monkeypatch.setattr(checks.os, "access", lambda path, mode: mode != os.W_OK or path != made)
    with pytest.raises(ValueError, match=rf"made: {made} may not be written"):
        require_addresses(PIPELINE, catalog(tmp_path / "raw.json", made))
