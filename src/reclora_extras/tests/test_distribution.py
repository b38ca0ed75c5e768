"""The methods as a distribution of their own, which the recommender finds by its entry points alone."""

import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from codeprint import fingerprint
from projects import ROOT
from reclora_extras import install_line
from reclora_kedro import extensions, settings
from reclora_kedro.pipelines.finetuning.nodes import train_adapter

FOLDER = Path(__file__).parents[1]
PROJECT = tomllib.loads((FOLDER / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_its_wheel_has_every_file_of_its_folder_but_tests():
    carried = {Path(file.distribution_path) for file in WheelBuilder(str(FOLDER)).recurse_included_files()}
    existing = {file.relative_to(FOLDER.parent) for file in FOLDER.rglob("*") if file.is_file()}
    assert carried == {file for file in existing if not {"tests", "__pycache__", "pyproject.toml"} & {*file.parts}}
    assert Path("reclora_extras/objectives/conf/studies/objectives.yml") in carried


def test_it_depends_on_the_recommender_of_its_version_alone():
    core = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert PROJECT["dependencies"] == [f"reclora-kedro[figures]=={core['version']}"]
    assert PROJECT["version"] == core["version"]
    assert not PROJECT["optional-dependencies"].keys() & core["optional-dependencies"].keys()


def test_it_is_installed_as_its_entry_points_say():
    for group, points in PROJECT["entry-points"].items():
        installed = {point.name: point.value for point in entry_points(group=group)}
        assert installed.items() >= points.items(), group
        if group not in ("reclora_kedro.conf", "reclora_kedro.named_blocks"):
            assert all(point.load() for point in entry_points(group=group))


def test_its_code_counts_wherever_it_is_installed_and_its_named_block_takes_new_names():
    [provenance, *_] = settings.HOOKS
    assert provenance.packages == extensions.packages() == ["reclora_extras"]
    assert "black_box.hints" in settings.CONFIG_LOADER_ARGS["named_blocks"]


def test_the_line_to_type_for_its_extras_names_its_own_packages():
    assert install_line("mlflow") == "pip install 'alembic>=1.13' 'mlflow-skinny>=3.17'"


METHODS = {
    "preference": "objectives.preferences",
    "mtl_lora": "mtl_lora",
}


@pytest.mark.parametrize("named", METHODS)
def test_a_training_runs_the_code_of_the_methods_that_its_variant_names(named):
    packages = ("reclora_kedro", *extensions.packages())
    code = fingerprint(train_adapter, packages=packages, values={"reclora", "click", "none", named})
    assert any(name.startswith(f"reclora_extras.{METHODS[named]}.") for name in code.parts)
