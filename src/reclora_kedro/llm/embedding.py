"""Text embeddings from a base LLM or a sentence encoder."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch

from reclora_kedro.devices import choose_dtype
from reclora_kedro.distributed.engine import LOCAL, EngineConfig, OncePerWorker, map_shards
from reclora_kedro.llm.batching import TokenBudget, pad_right
from reclora_kedro.llm.language_model import LanguageModel
from reclora_kedro.llm.sentence_encoder import SentenceEncoder
from reclora_kedro.progress import Progress

TextEncoder = LanguageModel | SentenceEncoder
"""Encoder of token ids as one vector per text: the mean hidden states of an LLM, or pooled ones."""


@torch.inference_mode()
def embed_texts(
    encoder: TextEncoder,
    texts: Sequence[str],
    max_tokens: int,
    tokens_per_batch: int,
    engine: EngineConfig = LOCAL,
) -> np.ndarray:
    """Embed the first `max_tokens` tokens of texts, float32, shape (texts, hidden); an empty text gets a zero vector.

    Equal texts, such as those of products of one kind, are embedded once. A sentence encoder multiplies in bfloat16
    where the device does so fast, in half the time.
    """
    distinct = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    if len(distinct) < len(texts):
        embedded = embed_texts(encoder, [*distinct], max_tokens, tokens_per_batch, engine)
        return embedded[[distinct[text] for text in texts]]
    if engine.spreads:
        shards = [[texts[place] for place in part] for part in engine.shards(len(texts))]
        embed_shard = OncePerWorker(partial(_embedding, encoder.loader(engine.uses_gpus), max_tokens, tokens_per_batch))
        return np.concatenate(list(map_shards(embed_shard, shards, engine, "embed items")))
    tokenized = encoder.tokenize(list(texts), max_tokens)
    token_ids = [ids if text else [] for ids, text in zip(tokenized, texts, strict=True)]
    embeddings = np.zeros((len(texts), encoder.width), dtype=np.float32)
    lengths = np.array([len(ids) for ids in token_ids])

    def embed(rows: np.ndarray) -> np.ndarray:
        return encoder.encode(*pad_right([token_ids[row] for row in rows], encoder.device)).cpu().numpy()

    nonempty, fast = np.flatnonzero(lengths), choose_dtype("auto", encoder.device)
    # An LLM has a type of its own. Cosines of an encoder's vectors with those in float32 are 0.9999.
    is_cast = fast == torch.bfloat16 and not isinstance(encoder, LanguageModel)
    products = torch.autocast(encoder.device.type, fast, enabled=is_cast)
    with products, Progress("embed items", len(nonempty), "texts") as progress:
        for rows, vectors in TokenBudget(tokens_per_batch).run(nonempty, lengths, embed):
            embeddings[rows] = vectors
            progress.update(len(rows))
    return embeddings


def _embedding(
    load: Callable[[], TextEncoder], max_tokens: int, tokens_per_batch: int
) -> Callable[[Sequence[str]], np.ndarray]:
    return partial(embed_texts, load(), max_tokens=max_tokens, tokens_per_batch=tokens_per_batch)
