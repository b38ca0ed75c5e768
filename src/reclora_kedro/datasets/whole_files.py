"""Datasets of files without versions, which other programs may read at any time.

The classes that they extend write over the former file, half of which could be read meanwhile. Those of tensors import
torch when they load or save: a catalog that does neither needs none.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import polars.selectors as cs
from kedro.io.core import get_filepath_str
from kedro_datasets.polars import CSVDataset
from kedro_datasets_experimental.safetensors import SafetensorsDataset

from kedro_provenance.files.atomic import atomic_file


class ArraysDataset(SafetensorsDataset):
    """Named arrays in a safetensors file, which replaces the former one as a whole."""

    def save(self, data: Mapping[str, np.ndarray]) -> None:
        from safetensors.numpy import save

        replace_file(self, save(dict(data)))


class TensorsDataset(SafetensorsDataset):
    """Saves and loads named torch tensors as a safetensors file."""

    def load(self) -> Any:
        from safetensors.torch import load

        return load(file_content(self))

    def save(self, data: Any) -> None:
        from safetensors.torch import save

        replace_file(self, save(data))


class GateInputsDataset(SafetensorsDataset):
    """Saves and loads :class:`reclora_kedro.gate_inputs.GateInputs` as a safetensors file."""

    def load(self) -> Any:
        from reclora_kedro.gate_inputs import GateInputs

        return GateInputs.from_bytes(file_content(self))

    def save(self, data: Any) -> None:
        replace_file(self, data.to_bytes())


class WholeCSVDataset(CSVDataset):
    """A CSV file, which replaces the former one as a whole; arguments as of ``CSVDataset``.

    A title or reason that a spreadsheet would compute as a formula follows an apostrophe. Ids stay as they are, since
    other tables are joined by them.
    """

    def save(self, data: pl.DataFrame) -> None:
        shown = cs.by_name("title", "because", require_all=False)
        lines = data.with_columns(shown.str.replace(r"^(\s*[=+\-@\t\r])", "'${1}"))
        replace_file(self, lines.write_csv(**self._save_args).encode())


def file_content(dataset: Any) -> bytes:
    """Return the content of the file of a dataset of kedro-datasets, which has its filesystem in `_fs`."""
    with dataset._fs.open(get_filepath_str(dataset._get_load_path(), dataset._protocol), "rb") as file:
        return file.read()


def replace_file(dataset: Any, content: bytes) -> None:
    """Write the file of such a dataset."""
    path = get_filepath_str(dataset._get_save_path(), dataset._protocol)
    if dataset._protocol == "file":
        atomic_file(Path(path), content)
    else:  # an object appears as a whole
        with dataset._fs.open(path, "wb") as file:
            file.write(content)
    dataset._invalidate_cache()
