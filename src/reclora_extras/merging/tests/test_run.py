"""`kedro run --pipelines merging` after an export."""

import json
import shutil
from pathlib import Path

import pytest

from exported import configure
from projects import kedro_run
from reclora_extras.merging.config import MergingConfig


@pytest.fixture
def project(finished_run, tmp_path):
    """A copy of the finished run with a trained variant whose gates read the user alone."""
    project = shutil.copytree(finished_run.project, tmp_path / "project")
    configure(project, {"variant": "reclora_user", "users": None, "most_active": 3}, composition="product_of_sums")
    kedro_run(project, pipeline_names=["finetuning"], node_names=["reclora_user.train_adapter"])
    return project


def test_users_loras_become_one_that_serves_new_users_and_is_scored_as_a_variant(project, monkeypatch):
    kedro_run(project, pipeline_names=["export"])
    monkeypatch.setattr(MergingConfig, "test_rows", 40)
    file = project / "conf/test/parameters_merging.yml"
    file.write_text(json.dumps({"merging": {"users": 2, "prompts": 5, "iterations": 2}}))
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
