"""Notebooks, executed in a process that has imported what they do."""

import json
import os
import signal
from pathlib import Path

from forked import exit_code


def code_of(notebook):
    """The code of each of its cells; it was committed without outputs."""
    cells = [cell for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] for cell in cells)
    return ["".join(cell["source"]) for cell in cells]


def shown_by(notebook, project):
    """What the cells of a notebook show in a project, in its environment `test`."""
    (project / "notebooks").mkdir(exist_ok=True)
    shown = project / "notebooks/shown.txt"
    assert exit_code(_execute, code_of(notebook), shown) == 0
    return shown.read_text(encoding="utf-8")


def _execute(code: list[str], shown: Path) -> None:
    import plotly.io
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output

    signal.alarm(120)
    os.environ["KEDRO_ENV"] = "test"
    os.chdir(shown.parent)
    plotly.io.renderers.default = "plotly_mimetype"
    shell = InteractiveShell.instance()
    with capture_output() as captured:
        for cell in code:
            shell.run_cell(cell).raise_error()
    shown.write_text(captured.stdout + str(captured.outputs), encoding="utf-8")
