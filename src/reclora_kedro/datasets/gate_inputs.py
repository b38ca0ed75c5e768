"""Gate inputs as one file."""

from typing import Any

from kedro.io.core import get_filepath_str
from kedro_datasets_experimental.safetensors import SafetensorsDataset


class GateInputsDataset(SafetensorsDataset):
    """Saves and loads :class:`reclora_kedro.adapters.gate_inputs.GateInputs`, see its ``to_bytes``."""

    def load(self) -> Any:
        """The gate inputs."""
        from reclora_kedro.adapters.gate_inputs import GateInputs

        path = get_filepath_str(self._get_load_path(), self._protocol)
        with self._fs.open(path, **self._fs_open_args_load) as file:
            return GateInputs.from_bytes(file.read())

    def save(self, data: Any) -> None:
        """Write the file."""
        path = get_filepath_str(self._get_save_path(), self._protocol)
        with self._fs.open(path, **self._fs_open_args_save) as file:
            file.write(data.to_bytes())
        self._invalidate_cache()
