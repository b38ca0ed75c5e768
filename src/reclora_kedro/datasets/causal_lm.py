"""A load-only dataset: the base LLM, whatever it comes from."""

from dataclasses import replace
from typing import Any

from reclora_kedro.datasets.pretrained import PretrainedDataset


class CausalLMDataset(PretrainedDataset):
    """Loads a base LLM and its tokenizer, frozen and in eval mode.

    Swapping the backbone is one line of YAML:

    ```yaml
    base_llm:
      type: reclora_kedro.datasets.causal_lm.CausalLMDataset
      source: Qwen/Qwen3-0.6B     # a hub id, a folder or a file ending in .gguf, local or s3://...
      revision: main              # of a hub id; pin a commit to keep runs reproducible
      dtype: auto                 # or bfloat16, float16, float32
      device: auto                # or cpu, cuda, cuda:1
      quantization: null          # or 8bit, 4bit: on an NVIDIA GPU, with the extra `gpu`
    ```

    Args:
        source: a hub id, a folder, or a GGUF file. What lies in an object storage, such as ``s3://bucket/folder``, is
            fetched once to the user's cache.
        revision: branch, tag or commit of a hub id.
        dtype: ``auto`` is bfloat16 where the device multiplies it fast, float32 elsewhere.
        device: ``auto`` is the first GPU, or the CPU without one.
        quantization: ``8bit`` or ``4bit`` weights, through bitsandbytes; None for none.
        credentials: what fsspec takes for the object storage.
        metadata: anything for plugins such as kedro-viz.
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
        arguments = {
            "source": source,
            "revision": revision,
            "dtype": dtype,
            "device": device,
            "quantization": quantization,
        }
        super().__init__(arguments, credentials, metadata)
        self._frozen: Any = None  # what all that is loaded here remembers of the same frozen layers

    def load(self) -> Any:
        """The base LLM as a :class:`reclora_kedro.llm.language_model.LanguageModel`."""
        from reclora_kedro.llm.language_model import load_language_model

        llm = load_language_model(**self._at_hand())
        self._frozen = self._frozen or llm.frozen
        return replace(llm, frozen=self._frozen)

    def outline(self) -> Any:
        """The base LLM without its weights, see :func:`reclora_kedro.llm.language_model.outline_language_model`."""
        from reclora_kedro.llm.language_model import outline_language_model

        return outline_language_model(**self._at_hand())
