"""What the wheel carries, and the project as an installed package."""

import runpy
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from click.testing import CliRunner
from hatchling.builders.wheel import WheelBuilder

from projects import ROOT
from reclora_kedro.__main__ import main
from reclora_kedro.cli import cli
from reclora_kedro.new_log.environment import IN_A_CLONE
from reclora_kedro.pipeline_registry import STEPS_WITHOUT_LLM

PROJECT = Path("reclora_kedro/project")


def test_the_wheel_has_every_file_of_its_packages_and_none_of_the_extras():
    builder = WheelBuilder(str(ROOT))
    carried = {Path(file.distribution_path) for file in builder.recurse_included_files()}
    of_a_project = {
        PROJECT / name / file.relative_to(ROOT / place)
        for name, place in IN_A_CLONE.items()
        for file in ([ROOT / place] if (ROOT / place).is_file() else (ROOT / place).rglob("*"))
        if file.is_file()
    }
    there = {file.relative_to(ROOT / "src") for file in (ROOT / "src").rglob("*") if file.is_file()}
    left_out = {"reclora_extras", "__pycache__", "pyproject.toml"}
    assert carried - of_a_project == {file for file in there if not left_out & {*file.parts}}
    assert {*of_a_project, Path("reclora_kedro/study/study.html.jinja")} < carried
    assert builder.metadata.core.license_files == ["LICENSE", "NOTICE"]


def test_an_installed_package_runs_in_an_empty_folder(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["reclora"])
    with pytest.raises(SystemExit, match="There is no project in"):
        main()
    conf = ["--conf-source", str(ROOT / "conf"), "--env", "test"]
    monkeypatch.setattr(sys, "argv", ["reclora_kedro", *conf, "--pipelines", "ingestion"])
    with pytest.raises(SystemExit):
        runpy.run_module("reclora_kedro", run_name="__main__")
    assert f"raw_items: no file {tmp_path}/data/01_raw/fabricated/items.csv" in capfd.readouterr().err.replace(
        "\n", " "
    )


@pytest.mark.parametrize("command", ["serve", "forget", f"study --conf-source {ROOT}/conf"])
def test_a_command_outside_of_a_project_is_refused(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    refused = CliRunner().invoke(cli, command)
    assert refused.output.startswith(f"Error: There is no project in {tmp_path}. Change to one")


def test_without_the_extra_llm_recommending_loads_and_an_llm_is_refused_with_the_line_to_type():
    code = """
        import sys
        sys.modules |= dict.fromkeys(("gguf", "peft", "transformers"))  # as if they were not installed
        from kedro_provenance.failures import RunRefusedError
        from reclora_kedro import pipeline_registry
        from reclora_kedro.pipelines import served_project
        print(*pipeline_registry.loadable(pipeline_registry.PIPELINES.modules()))
        try:
            pipeline_registry.load_step("finetuning")
        except RunRefusedError as error:
            print(error)
    """
    run = subprocess.run([sys.executable, "-c", dedent(code)], capture_output=True, text=True, check=True)
    loaded, said = run.stdout.splitlines()
    assert {*STEPS_WITHOUT_LLM, "candidates", "ranking", "update", "forget"} <= {*loaded.split()}
    assert "finetuning" not in loaded
    assert "`pip install 'gguf>=" in said
    assert "Without an LLM: `kedro run --pipelines ingestion,history,recommendation`." in said
