"""Saving versions against a model of it: saves, failed saves, erased versions, and other catalogs that read them."""

import shutil
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from kedro.io import DatasetError

from kedro_provenance.catalog import AtomicCatalog
from kedro_provenance.files.atomic import remove_folder

VERSIONS = [f"2026-01-0{day}T00.00.00.000Z" for day in range(1, 6)]


class Unserializable:
    """What JSON stops at, behind what it has written."""


class VersionsMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.folder = Path(mkdtemp())
        self.stored = {}

    def catalog(self, version=None):
        entry = {"type": "json.JSONDataset", "filepath": str(self.folder / "entry.json"), "versioned": True}
        return AtomicCatalog.from_config({"entry": entry}, save_version=version)

    @rule(version=st.sampled_from(VERSIONS), data=st.integers())
    def save(self, version, data):
        if version in self.stored:
            with pytest.raises(DatasetError, match="must not exist"):
                self.catalog(version).save("entry", [data])
        else:
            self.catalog(version).save("entry", [data])
            self.stored[version] = [data]

    @rule(version=st.sampled_from(VERSIONS))
    def fail(self, version):
        with pytest.raises(DatasetError):
            self.catalog(version).save("entry", [1, 2, Unserializable()])

    @rule(version=st.sampled_from(VERSIONS))
    def erase(self, version):
        if version in self.stored:
            remove_folder(self.folder / "entry.json" / version)
            del self.stored[version]

    @invariant()
    def every_catalog_reads_what_was_saved(self):
        catalog = self.catalog()
        assert sorted(catalog.get("entry").list_versions(full_path=False)) == sorted(self.stored)
        for version, data in self.stored.items():
            assert catalog.load("entry", version) == data
        if self.stored:
            assert self.catalog().load("entry") == self.stored[max(self.stored)]
        else:
            with pytest.raises(DatasetError, match="Did not find any versions"):
                self.catalog().load("entry")

    def teardown(self):
        shutil.rmtree(self.folder)


VersionsMachine.TestCase.settings = settings(max_examples=10, stateful_step_count=12, deadline=None)
test_versions_are_whole_or_absent = VersionsMachine.TestCase
