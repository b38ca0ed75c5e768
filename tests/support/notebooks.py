"""Notebooks, executed in a process that has imported what they do, and a service for them."""

import json
import os
import shutil
import signal
import socket
from contextlib import contextmanager
from pathlib import Path

from forked import FORKED, exit_code


def code_of(notebook):
    """The code of each of its cells."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def shown_by(notebook, project, **environment):
    """What the cells of a notebook show in a project, in its environment `test`."""
    shutil.copytree(notebook.parent / "shop", project / "notebooks/shop")
    shown = project / "notebooks/shown.txt"
    assert exit_code(_execute, code_of(notebook), shown, {"KEDRO_ENV": "test", **environment}) == 0
    return shown.read_text(encoding="utf-8")


def _execute(code: list[str], shown: Path, environment: dict[str, str]) -> None:
    import plotly.io
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output

    signal.alarm(280)
    os.environ.update(environment)
    os.chdir(shown.parent)
    plotly.io.renderers.default = "plotly_mimetype"
    shell = InteractiveShell.instance()
    with capture_output() as captured:
        for cell in code:
            shell.run_cell(cell).raise_error()
    shown.write_text(captured.stdout + str(captured.outputs), encoding="utf-8")


@contextmanager
def served(project):
    """`kedro serve --env test` of a project on a free port, without an LLM; gives its address."""
    here, there = FORKED.Pipe()
    process = FORKED.Process(target=_serve, args=(project, there))
    process.start()
    there.close()  # so that a service which fails ends the waiting for its address
    try:
        yield f"http://127.0.0.1:{here.recv()}"
    finally:
        process.terminate()
        process.join()


def _serve(project: Path, tell) -> None:
    from kedro.framework.startup import bootstrap_project

    from reclora_kedro.pipelines.served_project import ServedProject
    from reclora_kedro.serving.app import create_app, create_server
    from reclora_kedro.serving.metrics import Metrics
    from reclora_kedro.serving.service import Service

    os.chdir(project)
    bootstrap_project(project)
    served_project = ServedProject(project, "test", {"service": {"variant": None}})
    config = served_project.settings()
    service = Service(
        config, served_project.current_model, Metrics(), served_project.forgotten, served_project.withheld
    )
    app = create_app(service, None, served_project.chosen_by, served_project.roll_back)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        tell.send(listening.getsockname()[1])
        create_server(app, config).run([listening])
