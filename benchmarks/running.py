"""The project as `kedro run` sees it, other libraries' environments, and processes that measure one thing each."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

BENCHMARKS = Path(__file__).parent
ROOT = BENCHMARKS.parent


class Project(NamedTuple):
    """The parameters and raw tables of an environment."""

    parameters: dict[str, Any]
    load: Callable[[str], Any]


def open_project(environment: str = "base", folder: Path = ROOT) -> Project:
    """A folder's project as `kedro run --env` sees it; Kedro is imported here, since measuring processes need none."""
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(folder)
    with KedroSession.create(folder, env=environment) as session:
        assert isinstance(session, KedroSession)
        context = session.load_context()
        return Project(context.params, context.catalog.load)


def run(command: list[str], threads: int | None = None) -> Any:
    """What a measuring process prints on its last line; it has so many threads, or as many as this one."""
    environment = os.environ | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=BENCHMARKS, env=environment)
    return json.loads(output.stdout.splitlines()[-1])


def environment(name: str, *requirements: str, python: str = sys.executable) -> Path:
    """Make an environment of its own for another library, `.venv-peers/NAME`, and return its Python.

    `python` is a version or a file of the Python that it stands on.
    """
    uv, venv = ROOT / ".venv" / "bin" / "uv", ROOT / ".venv-peers" / name
    subprocess.run([uv, "venv", "--quiet", "--allow-existing", "--python", python, venv], check=True)
    own = venv / "bin" / "python"
    install = [str(uv), "pip", "install", "--quiet", "--python", str(own), *requirements]
    subprocess.run(install, check=True, stderr=subprocess.PIPE)
    return own
