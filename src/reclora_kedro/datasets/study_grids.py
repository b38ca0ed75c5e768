"""A load-only dataset of the grids of settings for studies."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from reclora_kedro.datasets.load_only import LoadOnlyDataset


class StudyGridsDataset(LoadOnlyDataset):
    """Grids by file name, from the project's folder, `path`, and from those of installed packages; read when called.

    The project's files replace a package's of the same name.
    """

    def __init__(
        self, *, path: str, packages: Mapping[str, Mapping[str, str]], metadata: dict[str, Any] | None = None
    ) -> None:
        self._folders = [*(package["path"] for package in packages.values()), path]
        self.metadata = metadata

    def load(self) -> dict[str, Callable[[], Any]]:
        files = (file for folder in self._folders for file in sorted(Path(folder).glob("*.yml")))
        return {file.stem: partial(_read, file) for file in files}

    def _describe(self) -> dict[str, Any]:
        return {"folders": self._folders}


def _read(file: Path) -> Any:
    return yaml.safe_load(file.read_text(encoding="utf-8"))
