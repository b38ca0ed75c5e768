"""A load-only dataset of a sentence encoder."""

from pathlib import Path
from typing import Any

from reclora_kedro.datasets.load_only import PretrainedDataset


class SentenceEncoderDataset(PretrainedDataset):
    """Loads a sentence encoder and its tokenizer, frozen and in eval mode.

    See `load_sentence_encoder`; a folder in an object storage is downloaded once to the user's cache.

    ```yaml
    sentence_encoder:
      type: reclora_kedro.datasets.sentence_encoder.SentenceEncoderDataset
      source: sentence-transformers/all-MiniLM-L6-v2  # a hub id, or a folder, local or s3://...
      revision: main                                  # of a hub id; pin a commit to keep runs reproducible
      device: auto                                    # or cpu, cuda, cuda:1
    ```
    """

    def __init__(
        self,
        *,
        source: str,
        revision: str | None = None,
        device: str = "auto",
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__({"source": source, "revision": revision, "device": device}, credentials, metadata)

    def require_sound(self) -> None:
        """Raise ValueError or OSError for a local encoder that cannot be loaded; none of a hub is fetched for this."""
        if Path(self._arguments["source"]).exists():
            self.load()

    def load(self) -> Any:
        """Load a :class:`reclora_kedro.llm.sentence_encoder.SentenceEncoder`."""
        from reclora_kedro.llm.sentence_encoder import load_sentence_encoder

        return load_sentence_encoder(**self._at_hand())
