"""A load-only dataset of the base LLM."""

from dataclasses import replace
from typing import Any

from reclora_kedro.datasets.load_only import PretrainedDataset


class CausalLMDataset(PretrainedDataset):
    """Loads a base LLM and its tokenizer, frozen and in eval mode.

    See `load_language_model` for the arguments; a source in an object storage is downloaded once to the user's cache.

    ```yaml
    base_llm:
      type: reclora_kedro.datasets.causal_lm.CausalLMDataset
      source: Qwen/Qwen3-0.6B     # a hub id, a folder or a file ending in .gguf, local or s3://...
      revision: main              # of a hub id; pin a commit to keep runs reproducible
      dtype: auto                 # or bfloat16, float16, float32
      device: auto                # or cpu, cuda, cuda:1
      quantization: null          # or 8bit, 4bit: on an NVIDIA GPU, with the extra `gpu`
    ```
    """

    def __init__(
        self,
        *,
        source: str,
        revision: str | None = None,
        dtype: str = "auto",
        device: str = "auto",
        quantization: str | None = None,
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        arguments = {"source": source, "revision": revision, "dtype": dtype, "device": device}
        super().__init__(arguments | {"quantization": quantization}, credentials, metadata)
        self._frozen: Any = None  # what all that is loaded here remembers of the same frozen layers

    def load(self) -> Any:
        """Load a :class:`reclora_kedro.llm.language_model.LanguageModel`."""
        from reclora_kedro.llm.language_model import load_language_model

        llm = load_language_model(**self._at_hand())
        self._frozen = self._frozen or llm.frozen
        return replace(llm, frozen=self._frozen)

    def outline(self) -> Any:
        """Load it without weights, see :func:`reclora_kedro.llm.language_model.outline_language_model`."""
        from reclora_kedro.llm.language_model import outline_language_model

        return outline_language_model(**self._at_hand())
