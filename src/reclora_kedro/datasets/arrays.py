"""A dataset of named arrays."""

from collections.abc import Mapping

import numpy as np
from kedro.io.core import get_filepath_str
from kedro_datasets_experimental.safetensors import SafetensorsDataset


class ArraysDataset(SafetensorsDataset):
    """Saves arrays by name in a safetensors file, which may lie in an object storage without versions.

    The class that it extends saves to a path of this machine alone, where versions are made before they are sent.
    """

    def save(self, data: Mapping[str, np.ndarray]) -> None:
        from safetensors.numpy import save

        path = get_filepath_str(self._get_save_path(), self._protocol)
        with self._fs.open(path, **self._fs_open_args_save) as file:
            file.write(save(dict(data)))
        self._invalidate_cache()
