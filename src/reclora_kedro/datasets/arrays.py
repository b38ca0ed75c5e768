"""A dataset of named arrays."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from kedro.io.core import get_filepath_str
from kedro_datasets_experimental.safetensors import SafetensorsDataset

from kedro_provenance.files.atomic import atomic_file


class ArraysDataset(SafetensorsDataset):
    """Saves arrays by name in a safetensors file without versions, as a whole: a service may read it at any time.

    The class that it extends writes over the former file, and to a path of this machine alone.
    """

    def save(self, data: Mapping[str, np.ndarray]) -> None:
        from safetensors.numpy import save

        path, content = get_filepath_str(self._get_save_path(), self._protocol), save(dict(data))
        if self._protocol == "file":
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            atomic_file(Path(path), content)
        else:  # an object appears as a whole
            with self._fs.open(path, **self._fs_open_args_save) as file:
                file.write(content)
        self._invalidate_cache()
