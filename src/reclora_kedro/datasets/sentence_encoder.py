"""A load-only dataset: a sentence encoder, which turns items' descriptions into vectors."""

from typing import Any

from reclora_kedro.datasets.pretrained import PretrainedDataset


class SentenceEncoderDataset(PretrainedDataset):
    """Loads a sentence encoder and its tokenizer, frozen and in eval mode.

    ```yaml
    sentence_encoder:
      type: reclora_kedro.datasets.sentence_encoder.SentenceEncoderDataset
      source: sentence-transformers/all-MiniLM-L6-v2  # a hub id, or a folder, local or s3://...
      revision: main                                  # of a hub id; pin a commit to keep runs reproducible
      device: auto                                    # or cpu, cuda, cuda:1
    ```

    Args:
        source: a hub id or a folder. A folder in an object storage, such as ``s3://bucket/folder``, is fetched once to
            the user's cache.
        revision: branch, tag or commit of a hub id.
        device: ``auto`` is the first GPU, or the CPU without one.
        credentials: what fsspec takes for the object storage.
        metadata: anything for plugins such as kedro-viz.
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

    def load(self) -> Any:
        """The encoder as a :class:`reclora_kedro.llm.sentence_encoder.SentenceEncoder`."""
        from reclora_kedro.llm.sentence_encoder import load_sentence_encoder

        return load_sentence_encoder(**self._at_hand())
