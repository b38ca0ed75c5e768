"""Semantic embeddings of texts by a base LLM or a sentence encoder."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from reclora_kedro.distributed.engine import LOCAL, EngineConfig, OncePerWorker, map_shards
from reclora_kedro.llm.batching import TokenBudget, pad_right
from reclora_kedro.llm.language_model import LanguageModel
from reclora_kedro.llm.prompts import plain_ids
from reclora_kedro.progress import Progress


class TextEncoder(Protocol):
    """What turns token ids into one vector per text."""

    device: torch.device
    width: int

    def tokenize(self, texts: list[str], max_tokens: int) -> list[list[int]]:
        """Token ids of each text, cut to at most so many."""

    def encode(self, token_ids: Tensor, last: Tensor) -> Tensor:
        """Vectors, float32, (batch, width), of right-padded texts, (batch, tokens), whose last tokens are given."""


class MeanOfLLM:
    """The mean over tokens of an LLM's last hidden states (RecLoRA, section 3.2).

    Texts are data: a special token of the tokenizer written in a text is read as plain characters.
    """

    def __init__(self, llm: LanguageModel) -> None:
        self._llm, self.device, self.width = llm, llm.device, llm.model.get_output_embeddings().weight.shape[1]

    def tokenize(self, texts: list[str], max_tokens: int) -> list[list[int]]:
        """Token ids without special tokens."""
        return plain_ids(self._llm.tokenizer, texts, max_tokens)

    def encode(self, token_ids: Tensor, last: Tensor) -> Tensor:
        """Means of the last hidden states."""
        return mean_of_tokens(self._llm.last_hidden_states(token_ids), last)


def mean_of_tokens(states: Tensor, last: Tensor) -> Tensor:
    """Mean of the states of right-padded texts up to each one's last token: (batch, tokens, hidden) to (batch, hidden).

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
    """One vector per text: of an LLM its mean hidden state, of a sentence encoder what that was made for.

    Args:
        encoder: a base LLM or a sentence encoder.
        texts: one description per item; an empty one gets a zero vector.
        max_tokens: tokens read of each text; the rest is cut off.
        tokens_per_batch: most tokens in a batch, padding included; halved where the GPU's memory does not suffice.
        engine: what the texts are read on.

    Returns:
        float32 array, shape (texts, hidden).
    """
    if engine.spreads:
        load = encoder.loader(engine.uses_gpus) if isinstance(encoder, LanguageModel) else lambda: encoder
        shards = [[texts[place] for place in part] for part in engine.shards(len(texts))]
        embed_shard = OncePerWorker(partial(_embedding, load, max_tokens, tokens_per_batch))
        return np.concatenate(list(map_shards(embed_shard, shards, engine, "embed items")))
    reader = MeanOfLLM(encoder) if isinstance(encoder, LanguageModel) else encoder
    token_ids = [ids if text else [] for ids, text in zip(reader.tokenize(list(texts), max_tokens), texts, strict=True)]
    embeddings = np.zeros((len(texts), reader.width), dtype=np.float32)
    lengths = np.array([len(ids) for ids in token_ids])

    def embed(rows: np.ndarray) -> np.ndarray:
        return reader.encode(*pad_right([token_ids[row] for row in rows], reader.device)).cpu().numpy()

    filled = np.flatnonzero(lengths)
    with Progress("embed items", len(filled), "texts") as progress:
        for rows, vectors in TokenBudget(tokens_per_batch).run(filled, lengths, embed):
            embeddings[rows] = vectors
            progress.update(len(rows))
    return embeddings


def _embedding(
    load: Callable[[], LanguageModel | TextEncoder], max_tokens: int, tokens_per_batch: int
) -> Callable[[Sequence[str]], np.ndarray]:
    return partial(embed_texts, load(), max_tokens=max_tokens, tokens_per_batch=tokens_per_batch)
