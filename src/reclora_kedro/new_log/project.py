"""A new Kedro project around a user's tables, for whoever installed the package without a clone."""

import shutil
from pathlib import Path

from kedro_provenance.files.atomic import atomic_folder
from reclora_kedro.defaults import CARRIED

CLONE = Path(__file__).parents[3]
IN_A_CLONE = {
    "conf/base": "conf/base",
    "conf/studies": "conf/studies",
    "conf/logging.yml": "conf/logging.yml",
    ".telemetry": ".telemetry",
    "pyproject.toml": "deploy/pyproject.toml",
}
"""Files and folders of a project, which the wheel has in `CARRIED`, and where a clone and the sources have them."""
OF_EVERY_PROJECT = ("base", "local", "studies")
"""Folders of `conf`, which are no environments for a log."""
IGNORED = "data/\nconf/local/\nconf/**/credentials*\n.viz/\n*.log\n*.log.*\n"


def write_project(folder: Path) -> None:
    """Make a folder a project: its configuration, `.telemetry` that consents to none, `.gitignore` and pyproject.toml.

    Raises:
        FileExistsError: the folder has some of these already.
    """
    if existing := [name for name in ("conf", "pyproject.toml") if (folder / name).exists()]:
        raise FileExistsError(
            f"{folder} has a {' and a '.join(existing)} already, and is no Kedro project: go to an empty folder, or to "
            "a project."
        )
    sources = {name: CARRIED / name if CARRIED.exists() else CLONE / place for name, place in IN_A_CLONE.items()}
    with atomic_folder(folder / "conf") as draft:
        for name, source in sources.items():
            path = Path(name)
            if path.parts[0] == "conf":
                copy = shutil.copytree if source.is_dir() else shutil.copyfile
                copy(source, draft / path.relative_to("conf"))
        (draft / "local").mkdir()
    if not (folder / ".gitignore").exists():
        (folder / ".gitignore").write_text(IGNORED, encoding="utf-8")
    for name in (".telemetry", "pyproject.toml"):  # the last one makes the folder a project
        shutil.copyfile(sources[name], folder / name)
