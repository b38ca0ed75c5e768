"""Export on a finished run: one variant more, trained, and its users' LoRAs written."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from exported import configure
from projects import kedro_run


@pytest.fixture(scope="module")
def project(finished_run, tmp_path_factory):
    """A copy of the finished run with a trained variant whose gates read the user alone."""
    project = tmp_path_factory.mktemp("export") / "project"
    shutil.copytree(finished_run.project, project)
    configure(project, {"variant": "reclora_user", "users": None, "most_active": 3})
    kedro_run(project, pipeline_names=["finetuning"], node_names=["reclora_user.train_adapter"])
    return project


def test_the_most_active_users_get_a_lora_each(project):
    catalog = kedro_run(project, pipeline_names=["export"])
    table = catalog.load("exported_adapters")
    interactions = catalog.load("interactions").collect().group_by("user_id").len().sort("len", descending=True)
    assert interactions.head(3)["len"].to_list() == (
        pl.DataFrame(table).join(interactions, on="user_id", how="left", maintain_order="left")["len"].to_list()
    )
    folder = Path(catalog.load("user_adapters"))
    for record in table:
        assert record["folder"] == f"user_{record['user_id']}"
        assert 0 < record["gate_entropy"] <= 1
        assert {path.name for path in (folder / record["folder"]).iterdir()} == {
            "adapter_config.json", "adapter_model.safetensors"
        }  # fmt: skip
    assert "mean of the lens's logit" in (folder / "README.md").read_text()
    assert json.loads(catalog.get("user_adapters").preview())["adapters"] == 3


def test_users_are_exported_by_id_and_an_unknown_one_is_refused_before_anything_is_written(project):
    known = pl.read_parquet(next((project / "data/test/03_primary/users.parquet").glob("*/*")))["user_id"][-1]
    configure(project, {"variant": "reclora_user", "users": [known], "most_active": None})
    catalog = kedro_run(project, pipeline_names=["export"])
    assert [record["user_id"] for record in catalog.load("exported_adapters")] == [known]
    before = sorted((project / "data/test").glob("0*/**/*"))
    configure(project, {"variant": "reclora_user", "users": [known, 987654], "most_active": None})
    with pytest.raises(ValueError, match=r"The users '987654' are not in the log: the log has 61"):
        kedro_run(project, pipeline_names=["export"])
    assert sorted((project / "data/test").glob("0*/**/*")) == before


def test_gates_that_read_the_target_are_refused_before_anything_is_written(project):
    configure(project, {"variant": "reclora", "users": None, "most_active": 3})
    before = sorted((project / "data/test").glob("0*/**/*"))
    with pytest.raises(ValueError, match=r"gates of this adapter read 'target'.*Set `gate_input: user`"):
        kedro_run(project, pipeline_names=["export"])
    assert sorted((project / "data/test").glob("0*/**/*")) == before


@pytest.mark.parametrize(("users", "most_active"), [(None, None), ([1], 3), ([], None)])
def test_users_are_named_or_counted(project, users, most_active):
    configure(project, {"variant": "reclora_user", "users": users, "most_active": most_active})
    with pytest.raises(Exception, match=r"export.users is .* and export.most_active is"):
        kedro_run(project, pipeline_names=["export"])


def test_the_default_run_exports_nothing(finished_run):
    assert not finished_run.outputs & {"user_states", "user_adapters", "exported_adapters"}
