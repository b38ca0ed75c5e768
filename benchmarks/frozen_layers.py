"""What the last layer's adapter reads of a prompt depends on no adapter: computed once, kept, and read again."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from reclora_kedro.llm.batching import batches_by_length, pad_right
from reclora_kedro.llm.language_model import LanguageModel

PROMPTS_PER_FILE = 1024
TOKENS_PER_BATCH = 4096


@dataclass(frozen=True)
class LastLayer(LanguageModel):
    """A Llama-like base LLM from the last layer's `o_proj` on, for prompts whose states before it are known.

    ``places`` says, by a prompt's token ids as bytes, which row of ``attended`` (what the heads of the last layer read
    at the last token) and of ``hidden`` (the residual stream there) is the prompt's; both have shape (prompts, hidden).
    """

    attended: Tensor
    hidden: Tensor
    places: dict[bytes, int]

    def joined(self, other: "LastLayer") -> "LastLayer":
        """The same LLM for the prompts of both."""
        start = len(self.hidden)
        return replace(
            self,
            attended=torch.cat([self.attended, other.attended]),
            hidden=torch.cat([self.hidden, other.hidden]),
            places=self.places | {key: start + row for key, row in other.places.items()},
        )

    def last_hidden_states(self, token_ids: Tensor) -> Tensor:
        """Final hidden states of the last tokens, as if every token's were the same: (batch, tokens, hidden)."""
        rows = [self.places[np.trim_zeros(ids, "b").tobytes()] for ids in token_ids.numpy().astype(np.int32)]
        decoder = self.model.get_decoder()
        layer = decoder.layers[-1]
        hidden = self.hidden[rows, None] + layer.self_attn.o_proj(self.attended[rows, None])
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        return decoder.norm(hidden).expand(-1, token_ids.shape[1], -1)


@torch.no_grad()
def states_before_output(llm: LanguageModel, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """What the last layer's heads read at each prompt's last token, and the residual stream there: (prompts, hidden).

    Args:
        llm: a Llama-like base LLM on the CPU.
        prompts: token ids.
    """
    decoder, config = llm.model.get_decoder(), llm.model.config
    attended, hidden = (torch.empty(len(prompts), config.hidden_size, dtype=llm.model.dtype) for _ in range(2))
    attention, norm = decoder.layers[-1].self_attn, decoder.layers[-1].input_layernorm
    for batch in batches_by_length(np.array([len(ids) for ids in prompts]), TOKENS_PER_BATCH):
        ids, last = pad_right([prompts[i] for i in batch])
        states, positions = decoder.embed_tokens(ids), torch.arange(ids.shape[1])[None]
        cos, sin = decoder.rotary_emb(states, positions)
        for layer in decoder.layers[:-1]:
            states = layer(states, attention_mask=None, position_ids=positions, position_embeddings=(cos, sin))
        normed = norm(states)
        query, key, value = (
            part(normed).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
            for part in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        query, key = apply_rotary_pos_emb(query, key, cos, sin)
        place = torch.arange(len(last))
        seen = torch.arange(ids.shape[1]) <= last[:, None]
        heads = functional.scaled_dot_product_attention(
            query[place, :, last].unsqueeze(2), key, value, attn_mask=seen[:, None, None], enable_gqa=True
        )
        attended[batch], hidden[batch] = heads.flatten(1), states[place, last]
    return attended, hidden


def with_frozen_layers(llm: LanguageModel, prompts: Sequence[Sequence[int]], folder: Path) -> LastLayer:
    """The LLM from its last `o_proj` on for these prompts; what is in the folder is read, the rest computed and kept.

    Args:
        llm: a Llama-like base LLM on the CPU, none of whose prompts ends with token 0.
        prompts: token ids.
        folder: where the states lie, of `PROMPTS_PER_FILE` prompts per file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    keys = [np.array(ids, np.int32).tobytes() for ids in prompts]
    with tqdm(total=len(prompts), desc="frozen layers", unit="prompt", disable=None) as progress:
        for start in range(0, len(prompts), PROMPTS_PER_FILE):
            part = slice(start, start + PROMPTS_PER_FILE)
            file = folder / f"{hashlib.sha256(b';'.join(keys[part])).hexdigest()[:16]}.safetensors"
            if not file.exists():
                attended, hidden = states_before_output(llm, prompts[part])
                draft = file.with_suffix(".draft")
                save_file({"attended": attended, "hidden": hidden}, draft)
                draft.replace(file)
            parts.append(load_file(file))
            progress.update(len(keys[part]))
    attended, hidden = (torch.cat([part[name] for part in parts]) for name in ("attended", "hidden"))
    return LastLayer(**vars(llm), attended=attended, hidden=hidden, places={key: i for i, key in enumerate(keys)})
