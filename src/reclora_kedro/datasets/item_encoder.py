"""A dataset of a tuned item encoder as a versioned folder."""

from pathlib import Path
from typing import Any, ClassVar

from kedro.io import Version

from reclora_kedro.datasets.folders import JSONFolderDataset


class ItemEncoderDataset(JSONFolderDataset):
    """Saves and loads a :class:`reclora_kedro.llm.sentence_encoder.SentenceEncoder`, frozen and in eval mode."""

    FILES: ClassVar = ("config.json", "model.safetensors", "tokenizer.json", "modules.json", "1_Pooling/config.json")
    RESOURCES: ClassVar = ("device",)
    """Arguments that do not change results."""

    def __init__(
        self,
        *,
        filepath: str,
        device: str = "auto",
        version: Version | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(filepath=filepath, version=version, metadata=metadata)
        self._device = device

    def read(self, folder: Path) -> Any:
        from reclora_kedro.llm.sentence_encoder import load_sentence_encoder

        return load_sentence_encoder(str(folder), device=self._device)
