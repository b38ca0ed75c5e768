"""Datasets of tensors, which import torch when they load or save: a catalog that does neither needs none."""

from typing import Any

from kedro_datasets_experimental.safetensors import SafetensorsDataset

from reclora_kedro.datasets.whole_files import file_content, replace_file


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
