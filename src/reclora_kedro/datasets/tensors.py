"""A dataset of tensors."""

from typing import Any

from kedro.io.core import get_filepath_str
from kedro_datasets_experimental.safetensors import SafetensorsDataset


class TensorsDataset(SafetensorsDataset):
    """Named torch tensors in a safetensors file.

    With ``backend: torch``, the class that it extends imports torch for a catalog that loads nothing.
    """

    def load(self) -> Any:
        from safetensors.torch import load

        path = get_filepath_str(self._get_load_path(), self._protocol)
        with self._fs.open(path, **self._fs_open_args_load) as file:
            return load(file.read())

    def save(self, data: Any) -> None:
        from safetensors.torch import save

        path = get_filepath_str(self._get_save_path(), self._protocol)
        with self._fs.open(path, **self._fs_open_args_save) as file:
            file.write(save(data))
        self._invalidate_cache()
