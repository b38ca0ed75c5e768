"""The outputs of the tutorials: `make tutorials` executes them after a default run, and stores what they show.

Each notebook runs in a copy of the finished project, so that it finds what a reader finds after `make run`. Stored are
tables, texts and figures as PNG, without the project's path, progress and colours, and a hash of the code that made
them.
"""

import base64
import hashlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
FIGURE = "application/vnd.plotly.v1+json"
UNSTABLE = (
    re.compile(r"\x1b\[[0-9;]*m"),  # colours
    re.compile(r"\r(?=\n)"),  # of terminals
    re.compile(r"(?:\r?\w+: +\d+%\|[^\r\n]*/s\]\r?)+\n?"),  # bars of progress
    re.compile(r"^\w+\.\w+ +[\d.]+ s  .*\n(?:[a-z_, .]+\n)*", re.MULTILINE),  # a line per node, and where it goes on
    re.compile(r"(?<=successfully) in [\d.]+ sec"),
    re.compile(r"[ \t]+$", re.MULTILINE),
)
VERSION = re.compile(r"\d{4}-\d\d-\d\dT\d\d\.\d\d\.\d\d\.\d{3}Z")
VARYING = "varying"  # tag of cells whose outputs are not stored, as they show times
SERVED = "serve_update_forget"  # the tutorial that asks a running service


def code_hash(notebook: nbformat.NotebookNode) -> str:
    """Return a hash of the code cells, which changes when outputs have to be made again."""
    code = [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return hashlib.sha256("\n\n".join(code).encode()).hexdigest()[:16]


def main() -> None:
    """Execute the named tutorials (default: all), and write their outputs into notebooks/."""
    wanted = sys.argv[1:] or sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
    finished = ROOT / "build/tutorials/finished"
    shutil.rmtree(finished, ignore_errors=True)
    _copy_code(finished)
    _kedro(finished, "run")
    for name in wanted:
        print(f"{name} ...", flush=True)
        project = shutil.copytree(finished, finished.parent / "project")
        try:
            _execute(ROOT / f"notebooks/{name}.ipynb", project)
        finally:
            shutil.rmtree(project)


def _copy_code(folder: Path) -> None:
    for name in ("conf", "src"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("local", "__pycache__"))
    (folder / "conf/local").mkdir()
    shutil.copytree(ROOT / "notebooks/shop", folder / "notebooks/shop")
    for name in ("pyproject.toml", ".telemetry"):
        shutil.copy(ROOT / name, folder)


def _kedro(project: Path, *arguments: str) -> None:
    subprocess.run([BIN / "kedro", *arguments], cwd=project, check=True)


def _execute(path: Path, project: Path) -> None:
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    os.environ |= {  # of the kernel, too
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "PLOTLY_RENDERER": "plotly_mimetype",
        "COLUMNS": "100",
        "PYTHONWARNINGS": "ignore:IProgress",
    }
    with _served(project) if path.stem == SERVED else nullcontext():
        resources = {"metadata": {"path": str(project / "notebooks")}}
        NotebookClient(notebook, timeout=600, record_timing=False, resources=resources).execute()
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            outputs = [] if VARYING in cell["metadata"].get("tags", ()) else cell["outputs"]
            cell["outputs"] = _joined(filter(None, (_stored(output, project) for output in outputs)))
    notebook["metadata"]["executed_code"] = code_hash(notebook)
    notebook["metadata"]["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    nbformat.write(notebook, path)


@contextmanager
def _served(project: Path) -> Iterator[None]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    os.environ["SERVICE"] = address = f"http://127.0.0.1:{port}"
    command = [BIN / "kedro", "serve", "--params", f"service.port={port},service.variant=null"]
    process = subprocess.Popen(command, cwd=project)
    try:
        while True:
            try:
                with urllib.request.urlopen(f"{address}/health/ready"):
                    break
            except urllib.error.URLError as error:
                if process.poll() is not None:
                    raise RuntimeError(f"`kedro serve` ended with {process.returncode} before it was ready.") from error
                time.sleep(0.5)
        yield
    finally:
        process.terminate()
        process.wait()


def _stored(output: dict[str, Any], project: Path) -> dict[str, Any] | None:
    """Return what is stored of an output, or None for progress and what shows nothing."""
    if output["output_type"] == "stream":
        text = _plain(output["text"], project)
        return nbformat.from_dict(output | {"text": text}) if text.strip() and output["name"] == "stdout" else None
    data = output["data"]
    if FIGURE in data:
        data = {"image/png": base64.b64encode(_png(data[FIGURE])).decode()}
    else:
        of_rich = "<pre style=" in data.get("text/html", "")  # whose HTML is coloured text
        data = {kind: _plain(text, project) for kind, text in data.items() if not (of_rich and kind == "text/html")}
    return nbformat.from_dict(output | {"data": data, "metadata": {}}) if any(map(str.strip, data.values())) else None


def _joined(outputs: Iterable[Any]) -> list[Any]:
    """Return outputs with texts that follow one another as one: how they come in parts differs from run to run."""
    joined = list[Any]()
    for output in outputs:
        if joined and output["output_type"] == joined[-1]["output_type"] == "stream":
            joined[-1]["text"] += output["text"]
        else:
            joined.append(output)
    return joined


def _plain(text: str, project: Path) -> str:
    """Return a text without what differs from run to run: colours, the project's path, times and versions."""
    for pattern in UNSTABLE:
        text = pattern.sub("", text)
    text = VERSION.sub("<version>".ljust(24), text)  # in tables, columns stay where they are
    text = text.replace(f"{datetime.now(UTC):%Y-%m-%d}", "<today>".ljust(10))
    return text.replace(f"{project}/", "").replace(str(project), ".")


def _png(figure: dict[str, Any]) -> bytes:
    import plotly
    from kaleido.scopes.plotly import PlotlyScope

    library = Path(plotly.__file__).parent / "package_data/plotly.min.js"
    height = figure["layout"].get("height", 450)
    return PlotlyScope(plotlyjs=str(library)).transform(figure, format="png", width=800, height=height)


if __name__ == "__main__":
    main()
