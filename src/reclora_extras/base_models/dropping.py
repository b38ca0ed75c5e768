"""Dropping of a base LLM's layers (Shortened LLaMA)."""

import copy
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reclora_extras.base_models import tuning
from reclora_extras.base_models.config import BaseModelConfig, DropLayersConfig
from reclora_extras.base_models.material import Material
from reclora_kedro.llm.attention import layers_replaced
from reclora_kedro.llm.batching import TokenBudget
from reclora_kedro.llm.language_model import LanguageModel
from reclora_kedro.progress import Progress

ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3", "smollm3")
"""Those whose layers each read the states that the one before returns, and whose weights' names match `LAYER`."""

CALIBRATION_PROMPTS = 64  # at most: each is read again without every layer that may go

LAYER = re.compile(r"(?<=\.layers\.)\d+(?=\.)")


def layer_importances(llm: LanguageModel, material: Material, config: BaseModelConfig) -> np.ndarray:
    """Return the importance of each layer, shape (layers,): the loss without it, or the sum of those of its weights.

    The loss is the mean over calibration prompts of reading and answering them (Shortened LLaMA, arXiv 2402.02834,
    whose two criteria are perplexity and Taylor); it is 0 for layers to keep.
    """
    prompts, own = material.few_shot, config.drop_layers
    count = llm.model.config.get_text_config().num_hidden_layers
    rows = np.random.default_rng(config.seed).permutation(len(prompts.labels))[:CALIBRATION_PROMPTS]
    of_layers = np.zeros(count)
    if own.importance != "loss":
        for name, values in weight_importances(llm, material, rows, config).items():
            if place := LAYER.search(name):
                of_layers[int(place[0])] += values.double().sum().item()
        return of_layers
    may_go = droppable(count, own)
    with torch.inference_mode(), Progress("leave out layers", len(may_go) * len(rows), "prompts") as progress:

        def losses(part: np.ndarray) -> np.ndarray:
            batch, labels, of_part = prompts.batch(part, llm.device), prompts.labels[part], np.zeros(count)
            for layer, logits in logits_without(llm, batch.token_ids, may_go):
                each = tuning.reading_and_answering_losses(logits, batch, labels, material.answers)
                of_part[layer] = each.double().sum().item()
                progress.update(len(part))
            return of_part

        for _, of_part in TokenBudget(config.tokens_per_batch).run(rows, prompts.lengths, losses):
            of_layers += of_part / len(rows)
    return of_layers


def weight_importances(
    llm: LanguageModel, material: Material, rows: np.ndarray, config: BaseModelConfig
) -> dict[str, Tensor]:
    """Return the importance of each weight by name: |w g|, the first-order change of the loss without it.

    g is the gradient of the mean loss of reading and answering some prompts. As a control, importance is drawn at
    random.
    """
    if config.drop_layers.importance == "random":
        generator = torch.Generator().manual_seed(config.seed)
        return {name: torch.rand(weight.shape, generator=generator) for name, weight in llm.model.named_parameters()}
    trained = tuning.trainable_copy(llm)
    named = dict(trained.model.named_parameters())
    losses = tuning.prompt_losses(material.few_shot, material.answers)
    budget = TokenBudget(config.tokens_per_batch)
    tuning.set_gradients(trained, rows, material.few_shot.lengths, losses, list(named.values()), budget)
    return {name: (weight.detach() * weight.grad).abs() for name, weight in named.items()}


def logits_without(llm: LanguageModel, token_ids: Tensor, layers: Iterable[int]) -> Iterator[tuple[int, Tensor]]:
    """Yield each of some layers with the LLM's logits without it, shape (batch, tokens, vocabulary).

    The layers below a skipped one are computed once for all.
    """
    decoder, states = llm.model.get_decoder(), dict[int, Tensor]()

    def keep(layer: int, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        states[layer] = inputs[0]

    with ExitStack() as hooks:
        for layer in layers:
            hooks.enter_context(decoder.layers[layer].register_forward_pre_hook(partial(keep, layer)))
        decoder(input_ids=token_ids, use_cache=False)
    for layer, before in states.items():
        with layers_replaced(decoder, [*[Skipped()] * (layer + 1), *decoder.layers[layer + 1 :]]):
            logits = llm.model(inputs_embeds=before, use_cache=False).logits
        yield layer, logits


class Skipped(nn.Module):
    """A layer that does nothing, so that later layers keep their places."""

    def forward(self, hidden_states: Tensor, **_: Any) -> Tensor:
        """Return the states unchanged."""
        return hidden_states


def drop_layers(llm: LanguageModel, importance: np.ndarray, config: DropLayersConfig) -> LanguageModel:
    """Return an LLM without the least important layers by `layer_importances` (Shortened LLaMA, arXiv 2402.02834)."""
    from transformers import AutoModelForCausalLM

    smaller = copy.deepcopy(llm.model.config)
    count = smaller.num_hidden_layers
    may_go = droppable(count, config)
    dropped = may_go[np.argsort(importance[may_go], kind="stable")[: config.layers]]
    number = {int(old): new for new, old in enumerate(np.setdiff1d(np.arange(count), dropped))}
    for name, values in smaller.to_dict().items():
        if isinstance(values, list) and len(values) == count:
            setattr(smaller, name, [values[layer] for layer in number])
    smaller.num_hidden_layers = len(number)
    state = {}
    for name, tensor in llm.model.state_dict().items():
        place = LAYER.search(name)
        if place is None or int(place[0]) in number:
            state[LAYER.sub(lambda match: str(number[int(match[0])]), name)] = tensor
    model = AutoModelForCausalLM.from_config(smaller, dtype=llm.model.dtype, attn_implementation="sdpa")
    model.load_state_dict(state)
    if llm.model.config._attn_implementation != model.config._attn_implementation:
        model.set_attn_implementation(llm.model.config._attn_implementation)
    return tuning.with_weights(llm, model.requires_grad_(False).eval().to(llm.device))


def droppable(count: int, config: DropLayersConfig) -> np.ndarray:
    """Return the numbers of the layers that may be dropped."""
    return np.arange(config.spare_first, max(config.spare_first, count - config.spare_last))
