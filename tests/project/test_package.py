"""What the wheel carries, and the project as an installed package."""

import runpy
import sys

import pytest
from hatchling.builders.wheel import WheelBuilder

from projects import ROOT


def test_the_wheel_has_every_file_of_the_packages_but_tests():
    builder = WheelBuilder(str(ROOT))
    carried = {file.distribution_path for file in builder.recurse_included_files()}
    there = {file.relative_to(ROOT / "src") for file in (ROOT / "src").rglob("*") if file.is_file()}
    assert carried == {str(file) for file in there if not {"tests", "__pycache__"} & set(file.parts)}
    assert {"reclora_extras/objectives/conf/studies/objectives.yml", "reclora_kedro/study/study.html.jinja"} < carried
    assert builder.metadata.core.license_files == ["LICENSE", "NOTICE"]


def test_an_installed_package_runs_in_an_empty_folder(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    conf = ["--conf-source", str(ROOT / "conf"), "--env", "test"]
    monkeypatch.setattr(sys, "argv", ["reclora_kedro", *conf, "--pipelines", "ingestion"])
    with pytest.raises(SystemExit):
        runpy.run_module("reclora_kedro", run_name="__main__")
    assert f"raw_items: no file {tmp_path}/data/01_raw/fabricated/items.csv" in capfd.readouterr().err.replace(
        "\n", " "
    )
