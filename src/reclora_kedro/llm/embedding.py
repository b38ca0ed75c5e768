"""Semantic embeddings of texts by a base LLM."""

from collections.abc import Sequence

import numpy as np
import torch
from tqdm import tqdm

from reclora_kedro.llm.batching import TokenBudget, pad_right
from reclora_kedro.llm.language_model import LanguageModel


@torch.inference_mode()
def embed_texts(llm: LanguageModel, texts: Sequence[str], max_tokens: int, tokens_per_batch: int) -> np.ndarray:
    """Mean over tokens of the last hidden states, one vector per text (RecLoRA, section 3.2).

    Texts are data: a special token of the tokenizer written in a text is read as plain characters.

    Args:
        llm: the base LLM.
        texts: one description per item; an empty one gets a zero vector.
        max_tokens: tokens read of each text; the rest is cut off.
        tokens_per_batch: most tokens in a batch, padding included; halved where the GPU's memory does not suffice.

    Returns:
        float32 array, shape (texts, hidden).
    """
    encoded = llm.tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)["input_ids"]
    token_ids = [ids[:max_tokens] for ids in encoded]
    embeddings = np.zeros((len(texts), llm.model.get_output_embeddings().weight.shape[1]), dtype=np.float32)
    lengths = np.array([len(ids) for ids in token_ids])

    def embed(rows: np.ndarray) -> np.ndarray:
        ids, last = pad_right([token_ids[row] for row in rows], llm.device)
        states = llm.last_hidden_states(ids).float()
        real = (torch.arange(ids.shape[1], device=ids.device) <= last[:, None]).unsqueeze(-1)
        return ((states * real).sum(1) / real.sum(1)).cpu().numpy()

    filled = np.flatnonzero(lengths)
    with tqdm(total=len(filled), desc="embed items", unit="text", disable=None) as progress:
        for rows, means in TokenBudget(tokens_per_batch).run(filled, lengths, embed):
            embeddings[rows] = means
            progress.update(len(rows))
    return embeddings
