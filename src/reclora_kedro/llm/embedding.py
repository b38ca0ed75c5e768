"""Text embeddings from a base LLM or a sentence encoder."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from reclora_kedro.devices import choose_dtype
from reclora_kedro.distributed.engine import LOCAL, EngineConfig, OncePerWorker, map_shards
from reclora_kedro.llm.batching import TokenBudget, pad_right
from reclora_kedro.llm.language_model import LanguageModel
from reclora_kedro.llm.prompts import plain_ids
from reclora_kedro.progress import Progress


class TextEncoder(Protocol):
    """Encoder of token ids as one vector per text."""

    device: torch.device
    width: int

    def loader(self, on_gpu: bool) -> "Callable[[], TextEncoder]":
        """Return a picklable function that makes the same encoder in another process, perhaps on its GPU."""

    def tokenize(self, texts: list[str], max_tokens: int) -> list[list[int]]:
        """Return at most `max_tokens` token ids of each text."""

    def encode(self, token_ids: Tensor, last: Tensor) -> Tensor:
        """Encode right-padded texts, (batch, tokens), whose last tokens are at `last`: float32, (batch, width)."""


class MeanOfLLM:
    """Mean over tokens of an LLM's last hidden states (RecLoRA, section 3.2); texts hold no special tokens."""

    def __init__(self, llm: LanguageModel) -> None:
        self._llm, self.device, self.width = llm, llm.device, llm.model.get_output_embeddings().weight.shape[1]

    def tokenize(self, texts: list[str], max_tokens: int) -> list[list[int]]:
        return plain_ids(self._llm.tokenizer, texts, min(max_tokens, self._llm.context_tokens))

    def encode(self, token_ids: Tensor, last: Tensor) -> Tensor:
        return mean_of_tokens(self._llm.last_hidden_states(token_ids), last)


def mean_of_tokens(states: Tensor, last: Tensor) -> Tensor:
    """Average the states of right-padded texts up to their last tokens: (batch, tokens, hidden) to (batch, hidden).

    Examples:
        >>> mean_of_tokens(torch.tensor([[[1.0], [3.0], [9.0]]]), last=torch.tensor([1]))
        tensor([[2.]])
    """
    real = (torch.arange(states.shape[1], device=states.device) <= last[:, None]).unsqueeze(-1)
    return (states.float() * real).sum(1) / real.sum(1)


@torch.inference_mode()
def embed_texts(
    encoder: LanguageModel | TextEncoder,
    texts: Sequence[str],
    max_tokens: int,
    tokens_per_batch: int,
    engine: EngineConfig = LOCAL,
) -> np.ndarray:
    """Embed texts: mean hidden states from an LLM, pooled vectors from a sentence encoder.

    Equal texts, such as those of products of one kind, are embedded once. A sentence encoder multiplies in bfloat16
    where the device does so fast, in half the time.

    Args:
        texts: one description per item; an empty one gets a zero vector.
        max_tokens: maximum tokens read per text; the rest is cut off.

    Returns:
        Float32, shape (texts, hidden).
    """
    distinct = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    if len(distinct) < len(texts):
        embedded = embed_texts(encoder, [*distinct], max_tokens, tokens_per_batch, engine)
        return embedded[[distinct[text] for text in texts]]
    if engine.spreads:
        shards = [[texts[place] for place in part] for part in engine.shards(len(texts))]
        embed_shard = OncePerWorker(partial(_embedding, encoder.loader(engine.uses_gpus), max_tokens, tokens_per_batch))
        return np.concatenate(list(map_shards(embed_shard, shards, engine, "embed items")))
    reader = MeanOfLLM(encoder) if isinstance(encoder, LanguageModel) else encoder
    token_ids = [ids if text else [] for ids, text in zip(reader.tokenize(list(texts), max_tokens), texts, strict=True)]
    embeddings = np.zeros((len(texts), reader.width), dtype=np.float32)
    lengths = np.array([len(ids) for ids in token_ids])

    def embed(rows: np.ndarray) -> np.ndarray:
        return reader.encode(*pad_right([token_ids[row] for row in rows], reader.device)).cpu().numpy()

    nonempty, fast = np.flatnonzero(lengths), choose_dtype("auto", reader.device)
    # An LLM has a type of its own. Cosines of an encoder's vectors with those in float32 are 0.9999.
    products = torch.autocast(reader.device.type, fast, enabled=reader is encoder and fast == torch.bfloat16)
    with products, Progress("embed items", len(nonempty), "texts") as progress:
        for rows, vectors in TokenBudget(tokens_per_batch).run(nonempty, lengths, embed):
            embeddings[rows] = vectors
            progress.update(len(rows))
    return embeddings


def _embedding(
    load: Callable[[], LanguageModel | TextEncoder], max_tokens: int, tokens_per_batch: int
) -> Callable[[Sequence[str]], np.ndarray]:
    return partial(embed_texts, load(), max_tokens=max_tokens, tokens_per_batch=tokens_per_batch)
