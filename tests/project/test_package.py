"""What the wheel carries, and the project as an installed package."""

import os
import runpy
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from click.testing import CliRunner
from hatchling.builders.wheel import WheelBuilder

from kedro_provenance.commands import provenance
from named import names_with
from projects import ROOT
from reclora_kedro import pipeline_registry
from reclora_kedro.__main__ import main
from reclora_kedro.cli import EXAMPLES, cli
from reclora_kedro.new_log.environment import IN_A_CLONE
from reclora_kedro.pipeline_registry import STEPS_OF_LISTS, STEPS_WITHOUT_LLM

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


def test_reclora_is_a_group_of_commands_each_with_an_example(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    of_provenance = {name: each.epilog.removeprefix("Example: ") for name, each in provenance.commands.items()}
    assert all(example.startswith(f"kedro provenance {name}") for name, example in of_provenance.items())
    for words in (
        ["--help"],
        *([name, "--help"] for name in EXAMPLES),
        *(["provenance", name, "-h"] for name in of_provenance),
    ):
        monkeypatch.setattr(sys, "argv", ["reclora", *words])
        with pytest.raises(SystemExit, match="0"):
            main()
        said = " ".join(capsys.readouterr().out.split())
        if words == ["--help"]:
            assert all(f" {name} " in said for name in (*EXAMPLES, "provenance", "registry"))
        else:
            assert f"Example: {(EXAMPLES | of_provenance)[words[-2]]}" in said


def test_options_of_commands_are_parameters_of_their_runs(monkeypatch):
    given = {}
    monkeypatch.setattr("reclora_kedro.cli.enter_project", lambda: ROOT)
    monkeypatch.setattr("reclora_kedro.commands.forget", lambda *_, **session: given.update(session))
    assert CliRunner().invoke(cli, "forget 018 K1 --params forget.remove=true").exit_code == 0
    assert given["runtime_params"]["forget"] == {"remove": True, "users": ["018", "K1"]}


@pytest.mark.parametrize("command", ["serve", "forget", f"study --conf-source {ROOT}/conf"])
def test_a_command_outside_of_a_project_is_refused(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    refused = CliRunner().invoke(cli, command)
    assert refused.output.startswith(f"Error: There is no project in {tmp_path}. Change to a project")


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
    assert "Without an LLM, run `kedro run --pipelines ingestion,history,recommendation`." in said


HIDDEN = """
    from importlib.machinery import PathFinder
    find, hidden = PathFinder.find_spec, {"torch", "pyarrow", "plotly", "sqlalchemy"}
    PathFinder.find_spec = lambda name, *rest: None if name in hidden else find(name, *rest)
"""  # of each process, also those that others start: packages that the wheel does not bring


def test_without_packages_of_extras_a_recommender_is_fitted_saved_and_loaded(tmp_path, monkeypatch):
    """It takes over 5 s: a process imports all that it needs, and its workers do, too."""
    code = """
        import sys
        import polars as pl
        from pathlib import Path
        from reclora_kedro import Recommender
        from reclora_kedro.distributed.engine import LOCAL, map_shards
        from reclora_kedro.extras import require_extra
        from reclora_kedro.history.log import InteractionLog

        if __name__ == "__main__":
            log = pl.DataFrame({
                "user_id": [user for user in range(20) for _ in range(6)],
                "item_id": [(user * step) % 11 for user in range(20) for step in range(1, 7)],
                "timestamp": range(10**9, 10**9 + 120),
            })
            recommender = Recommender.fit(log, sources=["popularity"], method="popularity")
            recommender.save(sys.argv[1])
            assert Recommender.load(sys.argv[1]).recommend().equals(recommender.recommend())
            [samples] = Path(sys.argv[1]).rglob("samples.arrow")
            print(len(InteractionLog.load(samples.parent).samples))
            shards = [[each, 1] for each in range(128)]  # as many as make processes of all cores worth while
            print(list(map_shards(sum, shards, LOCAL, "add", one_thread=True))[-1])
            for extra, needed_by in ("lens", "Training the lens"), ("arrow", "A table of pandas"):
                try:
                    require_extra(extra, needed_by)
                except ImportError as error:
                    print(error)
    """
    (tmp_path / "sitecustomize.py").write_text(dedent(HIDDEN))
    (tmp_path / "script.py").write_text(dedent(code))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    command = [sys.executable, tmp_path / "script.py", tmp_path / "model"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    *_, samples, added, of_lens, of_frame = run.stdout.splitlines()
    assert int(samples) > 0
    assert int(added) == 128
    assert of_lens == "Training the lens needs the extra `lens` (missing: torch): `pip install 'torch>=2.8'`"
    assert of_frame == "A table of pandas needs the extra `arrow` (missing: pyarrow): `pip install 'pyarrow>=18'`"


def test_the_default_flow_without_torch_ends_with_lists(monkeypatch):
    names = names_with()
    steps = pipeline_registry.create_pipelines(pipeline_registry.DEFAULT_STEPS, names)
    monkeypatch.setattr(pipeline_registry, "missing_extra", lambda extra, needed_by: f"{extra} is missing")
    of_flow = {str(node.namespace).partition(".")[0] for node in pipeline_registry.default_flow(steps, names).nodes}
    assert of_flow == {*STEPS_OF_LISTS}
