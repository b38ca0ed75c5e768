"""A dataset of gate inputs."""

from typing import Any

from kedro.io.core import get_filepath_str
from kedro_datasets_experimental.safetensors import SafetensorsDataset


class GateInputsDataset(SafetensorsDataset):
    """Saves and loads :class:`reclora_kedro.gate_inputs.GateInputs` as a safetensors file."""

    def load(self) -> Any:
        from reclora_kedro.gate_inputs import GateInputs

        path = get_filepath_str(self._get_load_path(), self._protocol)
        with self._fs.open(path, **self._fs_open_args_load) as file:
            return GateInputs.from_bytes(file.read())

    def save(self, data: Any) -> None:
        path = get_filepath_str(self._get_save_path(), self._protocol)
        with self._fs.open(path, **self._fs_open_args_save) as file:
            file.write(data.to_bytes())
        self._invalidate_cache()
