"""The layers below the first adapted one give every adapter the same hidden states: computed once, read again."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from reclora_kedro.llm.batching import batches_by_length, pad_right
from reclora_kedro.llm.language_model import LanguageModel


@dataclass(frozen=True)
class LastLayers(LanguageModel):
    """A base LLM that begins at its layer ``first``, with hidden states of known prompts that lie in a file.

    ``places`` says, for a prompt's token ids as bytes, where its states begin in ``states``, shape (tokens, hidden).
    """

    first: int
    states: Tensor
    places: dict[bytes, int]

    def last_hidden_states(self, token_ids: Tensor) -> Tensor:
        """Final hidden states of right-padded prompts, shape (batch, tokens, hidden)."""
        hidden = self.states.new_zeros(*token_ids.shape, self.states.shape[1])
        for row, padded in enumerate(token_ids.numpy().astype(np.int32)):
            ids = np.trim_zeros(padded, "b")
            start = self.places[ids.tobytes()]
            hidden[row, : len(ids)] = self.states[start : start + len(ids)]
        decoder = self.model.get_decoder()
        return decoder.norm(run_layers(decoder, decoder.layers[self.first :], hidden))


def run_layers(decoder: torch.nn.Module, layers: torch.nn.ModuleList, hidden: Tensor) -> Tensor:
    """Hidden states after some layers of a Llama-like decoder, shape (batch, tokens, hidden)."""
    positions = torch.arange(hidden.shape[1])[None]
    rotary = decoder.rotary_emb(hidden, positions)
    for layer in layers:
        hidden = layer(hidden, attention_mask=None, position_ids=positions, position_embeddings=rotary)
    return hidden


@torch.no_grad()
def with_frozen_layers(
    llm: LanguageModel, prompts: Sequence[Sequence[int]], first: int, file: Path, tokens_per_batch: int = 4096
) -> LastLayers:
    """The LLM from its layer ``first`` on; what the layers below give for these prompts is computed now, into a file.

    Args:
        llm: a Llama-like base LLM on the CPU, none of whose prompts ends with token 0.
        prompts: token ids; the same prompt twice is computed once.
        first: number of the first layer that is not computed now.
        file: where the states lie.
        tokens_per_batch: most tokens in a forward pass, padding included.
    """
    distinct = list({np.array(ids, np.int32).tobytes(): list(ids) for ids in prompts}.items())
    lengths = np.array([len(ids) for _, ids in distinct])
    starts = np.concatenate([[0], lengths.cumsum()])
    decoder, hidden_size = llm.model.get_decoder(), llm.model.config.hidden_size
    size = int(starts[-1]) * hidden_size
    states = torch.from_file(str(file), shared=True, size=size, dtype=llm.model.dtype).view(-1, hidden_size)
    with tqdm(total=len(states), desc="frozen layers", unit="token", unit_scale=True, disable=None) as progress:
        for batch in batches_by_length(lengths, tokens_per_batch):
            ids, _ = pad_right([distinct[i][1] for i in batch])
            hidden = run_layers(decoder, decoder.layers[:first], decoder.embed_tokens(ids))
            for row, i in enumerate(batch):
                states[starts[i] : starts[i + 1]] = hidden[row, : lengths[i]]
            progress.update(int(lengths[batch].sum()))
    places = {key: int(start) for (key, _), start in zip(distinct, starts[:-1], strict=True)}
    return LastLayers(**vars(llm), first=first, states=states, places=places)
