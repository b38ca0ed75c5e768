"""A load-only dataset: a sentence encoder, which turns items' descriptions into vectors."""

from typing import Any, ClassVar, NoReturn

from kedro.io import AbstractDataset, DatasetError

from reclora_kedro.files.storage import local_copy


class SentenceEncoderDataset(AbstractDataset[NoReturn, Any]):
    """Loads a sentence encoder and its tokenizer, frozen and in eval mode.

    ```yaml
    sentence_encoder:
      type: reclora_kedro.datasets.sentence_encoder.SentenceEncoderDataset
      source: sentence-transformers/all-MiniLM-L6-v2  # a hub id, a folder (local or s3://...), or a file in a local one
      revision: main                                  # of a hub id; pin a commit to keep runs reproducible
      device: auto                                    # or cpu, cuda, cuda:1
    ```

    Args:
        source: a hub id, a folder, or a file in a local one. A folder in an object storage, such as
            ``s3://bucket/folder``, is fetched once to the user's cache.
        revision: branch, tag or commit of a hub id.
        device: ``auto`` is the first GPU, or the CPU without one.
        credentials: what fsspec takes for the object storage.
        metadata: anything for plugins such as kedro-viz.
    """

    RESOURCES: ClassVar = ("device",)
    """Arguments that say where it is computed, but change no results."""

    def __init__(
        self,
        *,
        source: str,
        revision: str | None = None,
        device: str = "auto",
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._arguments: dict[str, Any] = {"source": source, "revision": revision, "device": device}
        self._credentials = credentials or {}
        self.metadata = metadata

    def load(self) -> Any:
        """The encoder as a :class:`reclora_kedro.llm.sentence_encoder.SentenceEncoder`."""
        from reclora_kedro.llm.sentence_encoder import load_sentence_encoder

        return load_sentence_encoder(**self._at_hand())

    def _at_hand(self) -> dict[str, Any]:
        return self._arguments | {"source": local_copy(self._arguments["source"], self._credentials)}

    def save(self, data: NoReturn) -> None:
        """Encoders are never written.

        Raises:
            DatasetError: always.
        """
        raise DatasetError("A sentence encoder is read only: nothing here trains one.")

    def _describe(self) -> dict[str, Any]:
        return self._arguments
