"""Semantic embeddings of texts by a base LLM."""

from collections.abc import Sequence

import numpy as np
import torch
from tqdm import tqdm

from reclora_kedro.llm.batching import batches_by_length, pad_right
from reclora_kedro.llm.language_model import LanguageModel


@torch.inference_mode()
def embed_texts(llm: LanguageModel, texts: Sequence[str], max_tokens: int, tokens_per_batch: int) -> np.ndarray:
    """Mean over tokens of the last hidden states, one vector a text (RecLoRA, section 3.2).

    Texts are data: a special token of the tokenizer written in a text is read as plain characters.

    Args:
        llm: the base LLM.
        texts: one description an item; an empty one gets a zero vector.
        max_tokens: tokens read of each text; the rest is cut off.
        tokens_per_batch: most tokens in a batch, padding included.

    Returns:
        float32 array, shape (texts, hidden).
    """
    encoded = llm.tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)["input_ids"]
    token_ids = [ids[:max_tokens] for ids in encoded]
    embeddings = np.zeros((len(texts), llm.model.config.get_text_config().hidden_size), dtype=np.float32)
    filled = np.flatnonzero([len(ids) > 0 for ids in token_ids])
    with tqdm(total=len(filled), desc="embed items", unit="text", disable=None) as progress:
        for batch in batches_by_length([len(token_ids[row]) for row in filled], tokens_per_batch):
            rows = filled[batch]
            ids, last = pad_right([token_ids[row] for row in rows], llm.device)
            states = llm.last_hidden_states(ids).float()
            real = (torch.arange(ids.shape[1], device=ids.device) <= last[:, None]).unsqueeze(-1)
            embeddings[rows] = ((states * real).sum(1) / real.sum(1)).cpu().numpy()
            progress.update(len(rows))
    return embeddings
