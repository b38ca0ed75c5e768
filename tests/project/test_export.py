"""Export on a finished run: one variant more, trained, and its users' LoRAs written."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from projects import kedro_run


def configure(project, export, gate_input="user", blend="average"):
    """A variant `reclora_user` beside the others, and what to export of it."""
    file = project / "conf/test/parameters_export.yml"
    file.unlink(missing_ok=True)
    bootstrap_project(project)
    with KedroSession.create(project, env="test") as session:
        variant = session.load_context().config_loader["parameters"]["finetuning"]["variants"]["reclora"]
    variant = json.loads(json.dumps(variant))
    variant |= {"gate_input": gate_input, "blend": blend}
    file.write_text(json.dumps({"finetuning": {"variants": {"reclora_user": variant}}, "export": export}))


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
    with pytest.raises(ValueError, match=r"The users 987654 are none of the log's 61"):
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


def test_users_loras_become_one_that_serves_new_users_and_is_scored_as_a_variant(project):
    configure(project, {"variant": "reclora_user", "users": None, "most_active": 3})
    kedro_run(project, pipeline_names=["export"])
    file = project / "conf/test/parameters_merging.yml"
    file.write_text(json.dumps({"merging": {"users": 2, "prompts": 5, "iterations": 2, "rank": 8, "test_rows": 40}}))
    catalog = kedro_run(project, pipeline_names=["merging"])
    folder = Path(catalog.load("merged_loras"))
    merged = {"iteris", "linear", "svd", "ties", "dare"}
    assert {path.name for path in folder.iterdir()} == {*merged, "README.md"}
    report = catalog.load("merging_report")
    assert {*merged, "lens", "untrained", "shared_lora", "reclora"} <= {record["model"] for record in report}
    assert len({record["rows"] for record in report}) == 1
    trained = set(catalog.load("log").samples.filter(split="train")["user_index"])
    assert not trained & set(catalog.load("merging_scores")["user"])
    assert catalog.load("merging_log")["iteration"].to_list() == [0, 1, 2]
    by_svd = {"merging": {"method": "svd"}}
    again = kedro_run(project, by_svd, pipeline_names=["merging"], only_missing_outputs=True)
    ran = again.load("run_manifest")["nodes"]
    assert [node for node in ran if "merge" in node] == ["merging.choose_merged"]  # nothing is merged anew
    kedro_run(project, pipeline_names=["merging"], only_missing_outputs=True)

    variants = json.loads((project / "conf/test/parameters_export.yml").read_text())["finetuning"]["variants"]
    variant = variants["reclora_user"] | {"adapter": {"num_meta_loras": 1}, "blend": "none"}
    file.write_text(json.dumps({"merging": {"users": 2}, "finetuning": {"variants": {"merged": variant}}}))
    scored = kedro_run(project, pipeline_names=["scoring"], node_names=["merged.score_adapter"]).load("merged.scores")
    chosen = catalog.load("merging_scores").filter(model="iteris").join(scored, on="row")
    assert chosen.height == 40
    assert (chosen["score"] - chosen["score_right"]).abs().max() < 1e-5
