"""Grids of settings from the project and from installed packages."""

from kedro_provenance.entry_digests import digest_of_entry
from reclora_kedro.datasets.study_grids import StudyGridsDataset


def test_grids_of_packages_are_read_and_digested_beside_those_of_the_project(tmp_path):
    of_package, of_project = tmp_path / "package", tmp_path / "project"
    for folder, names in ((of_package, ("privacy", "rank")), (of_project, ("rank",))):
        folder.mkdir()
        for name in names:
            (folder / f"{name}.yml").write_text(f"title: {name} of {folder.name}")
    entry = {"path": str(of_project), "packages": {"mine": {"path": str(of_package)}}}
    titles = {name: read()["title"] for name, read in StudyGridsDataset(**entry).load().items()}
    assert titles == {"privacy": "privacy of package", "rank": "rank of project"}
    digest = digest_of_entry(entry)
    (of_package / "privacy.yml").write_text("title: another")
    assert digest_of_entry(entry) != digest
