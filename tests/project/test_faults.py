"""What a run of the project must survive, or refuse before it begins."""

import json
import logging
import shutil
import signal
from logging.handlers import RotatingFileHandler

import pytest
from click.exceptions import Exit
from filelock import lock_descriptor
from kedro.io import DatasetError
from polars.testing import assert_frame_equal

from dying import score_and_die
from forked import exit_code
from kedro_provenance.failures import RunRefusedError
from kedro_provenance.terminal import leave_out_unwritable_logs
from projects import kedro_run, stored, type_command

# A dataset that kills its own process, as a user, a scheduler or the kernel might.
DYING_TABLE = '''
import os
import signal

from kedro_datasets.polars import EagerPolarsDataset


class DyingTable(EagerPolarsDataset):
    """Its process is killed when half of it is written."""

    def save(self, data):
        super().save(data)
        path = str(self._get_load_path())
        os.truncate(path, os.path.getsize(path) // 2)
        os.kill(os.getpid(), signal.SIGKILL)
'''


def test_a_log_file_that_cannot_be_written_is_left_out_with_one_warning(tmp_path, caplog):
    (tmp_path / "kedro.log").mkdir()
    handlers = [RotatingFileHandler(tmp_path / name, delay=True) for name in ("kedro.log", "other.log")]
    root = logging.getLogger()
    root.handlers += handlers
    leave_out_unwritable_logs()
    leave_out_unwritable_logs()
    left = [handler for handler in handlers if handler in root.handlers]
    root.removeHandler(handlers[1])
    assert left == handlers[1:]
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}/kedro.log cannot be written by this user: messages only go to the terminal."
    ]


def test_a_run_beside_another_one_is_refused_before_it_writes(fabricated_project):
    before = stored(fabricated_project)
    (fabricated_project / "data/test").mkdir()
    with (fabricated_project / "data/test/.run.lock").open("w") as lock:
        lock_descriptor(lock.fileno())
        with pytest.raises(RunRefusedError, match="Another run uses the data folder"):
            kedro_run(fabricated_project, pipeline_names=["ingestion"])
    assert stored(fabricated_project) == before


def test_a_run_without_its_inputs_is_refused_with_the_pipelines_that_make_them(fabricated_project):
    before = stored(fabricated_project)
    with pytest.raises(
        RunRefusedError,
        match=r"(?s)- items: no version in .*items.parquet.*first with `kedro run .*ingestion`",
    ):
        kedro_run(fabricated_project, pipeline_names=["history"])
    assert stored(fabricated_project) == before


def test_a_run_that_was_killed_while_it_saved_goes_on(fabricated_project, finished_run):
    dying = fabricated_project / "conf/test/catalog_dying.yml"
    entry = {
        "type": "dying_table.DyingTable",
        "file_format": "parquet",
        "filepath": "data/test/03_primary/items.parquet",
    }
    dying.write_text(json.dumps({"items": entry | {"versioned": True}}))
    (fabricated_project / "src/dying_table.py").write_text(DYING_TABLE)
    command = ("run", "--env", "test", "--pipelines", "ingestion")
    assert exit_code(type_command, fabricated_project, *command) == -signal.SIGKILL
    dying.unlink()
    assert list(fabricated_project.glob("data/test/03_primary/items.parquet/.unfinished-*/**/*.parquet"))

    catalog = kedro_run(fabricated_project, pipeline_names=["ingestion"], only_missing_outputs=True)
    for name in ("interactions", "items", "users"):
        assert_frame_equal(*(some.load(name).lazy().collect() for some in (catalog, finished_run.catalog)))
    assert not list(fabricated_project.glob("data/test/**/.unfinished*"))


def test_a_run_that_was_killed_while_it_scored_goes_on(tmp_path, finished_run):
    project = shutil.copytree(finished_run.project, tmp_path / "project")
    finished_run.catalog.release("scores")  # other tests make newer versions
    undisturbed = finished_run.catalog.load("scores")
    outputs = ["untrained_scores.parquet", "shared_lora", "reclora", "scores.parquet"]
    for name in outputs:
        shutil.rmtree(project / "data/test/07_model_output" / name)
    before = stored(project)
    assert exit_code(score_and_die, project) == -signal.SIGKILL
    after = stored(project)
    assert {path: after[path] for path in before} == before
    made = after.keys() - before  # what one model left; the second was not scored
    assert len({path.parents[2] for path in made}) == 1

    catalog = kedro_run(project, pipeline_names=["scoring"], only_missing_outputs=True)
    assert catalog.load("scores").equals(undisturbed)
    assert all(list(path.parents[1].glob(f"*/{path.name}")) == [path] for path in made)


def test_a_dry_run_says_what_would_run_and_why_and_writes_nothing(finished_run, capsys):
    before = stored(finished_run.project)
    with pytest.raises(Exit) as ended:
        kedro_run(finished_run.project, {"dry_run": True, "lens": {"hidden_dim": 64}})
    assert ended.value.exit_code == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "lens.train_lens" in printed
    assert "lens.hidden_dim" in printed
    assert "128 -> 64" in printed
    assert stored(finished_run.project) == before


def test_results_of_two_lenses_are_not_evaluated_together_unless_the_report_says_so(tmp_path, finished_run):
    project = shutil.copytree(finished_run.project, tmp_path / "project")
    kedro_run(project, {"lens": {"seed": 7}}, pipeline_names=["lens"])
    before = stored(project)
    with pytest.raises(RunRefusedError, match=r"lens\.train_lens has changed in between"):
        kedro_run(project, pipeline_names=["evaluation"])
    assert stored(project) == before
    catalog = kedro_run(project, {"allow_mixed": True}, pipeline_names=["evaluation"])
    assert "allowed to read results of different data" in catalog.load("evaluation_report")
    assert any("lens.train_lens" in sentence for sentence in catalog.load("run_manifest")["mixed"])


def test_a_changed_byte_is_refused_by_the_name_of_its_entry(tmp_path, finished_run):
    project = shutil.copytree(finished_run.project, tmp_path / "project")
    file = max(project.glob("data/test/07_model_output/scores.parquet/*/scores.parquet"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(DatasetError, match=r"The files of scores in .* are not those that were saved"):
        kedro_run(project, pipeline_names=["evaluation"])
    assert "scoring.collect_scores" in kedro_run(project, only_missing_outputs=True).load("run_manifest")["nodes"]
