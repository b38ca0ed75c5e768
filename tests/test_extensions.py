"""Registries know the recommender's own modules, those of installed packages, and dotted paths."""

import subprocess
import sys

import pytest

from installed import installed
from reclora_kedro import extensions
from reclora_kedro.extensions import Registry

MODELS = Registry("reclora_kedro.lens.models")


def test_an_entry_point_adds_a_module_and_replaces_none(tmp_path):
    files = {"outside_package/__init__.py": "", "outside_package/mine.py": "X = 1"}
    points = {"mine": "outside_package.mine", "sim": "outside_package.mine"}
    with installed(tmp_path, files, {MODELS.group: points}):
        assert MODELS.modules()["mine"] == "outside_package.mine"
        assert MODELS.modules()["sim"] == "reclora_kedro.lens.models.sim"
        assert "outside_package" not in sys.modules
        assert MODELS.load("mine").X == 1
    assert "mine" not in MODELS.modules()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("simm", r"'simm' is unknown: choose one of autoint, .*; the nearest one is sim"),
        ("reclora_kedro.lens.model", "reclora_kedro.lens.model cannot be imported: the package has no such module"),
        ("nowhere.model", "nowhere.model cannot be imported: No module named 'nowhere'; install its package"),
        ("../model.py", r"'../model.py' is unknown"),
    ],
)
def test_what_is_no_module_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        MODELS.require(name)


def test_a_module_with_two_models_is_refused(tmp_path):
    text = "class A(int): ...\nclass B(int): ..."
    refused = pytest.raises(ValueError, match=r"two_models\.models must define one subclass of .*, but defines A, B")
    with installed(tmp_path, {"two_models/__init__.py": "", "two_models/models.py": text}), refused:
        MODELS.load_class("two_models.models", int)


def test_configuration_of_a_package_that_is_missing_is_refused(tmp_path):
    refused = pytest.raises(ModuleNotFoundError, match="names the package gone_package, which is not installed")
    with installed(tmp_path, {}, {extensions.CONF_GROUP: {"gone": "gone_package"}}), refused:
        extensions.conf_folders()


def test_listing_pipelines_loads_neither_torch_nor_an_extension():
    code = (
        "import sys; from reclora_kedro.cli import list_pipelines; list_pipelines.main([], standalone_mode=False);"
        "print([name for name in ('torch', 'transformers', 'peft', 'pandera', 'ray') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip().splitlines()[-1] == "[]"
