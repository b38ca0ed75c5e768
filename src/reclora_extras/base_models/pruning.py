"""Pruning of a base LLM: heads and channels of every layer (LLM-Pruner), or whole layers (Shortened LLaMA)."""

import copy
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reclora_extras.base_models import tuning
from reclora_extras.base_models.config import BaseModelConfig, DropLayersConfig, ImportanceConfig, PruneConfig
from reclora_extras.base_models.material import Account, Material
from reclora_kedro.llm.attention import layers_replaced
from reclora_kedro.llm.batching import TokenBudget
from reclora_kedro.llm.language_model import LanguageModel
from reclora_kedro.llm.prompt_set import PromptSet
from reclora_kedro.llm.prompts import PromptFormat
from reclora_kedro.progress import Progress

ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3", "smollm3")
"""Those whose layers have the parts of `COUPLED`, and whose configuration says how many there are of each."""

COUPLED = {
    "num_key_value_heads": {"self_attn.q_proj": 0, "self_attn.k_proj": 0, "self_attn.v_proj": 0, "self_attn.o_proj": 1},
    "intermediate_size": {"mlp.gate_proj": 0, "mlp.up_proj": 0, "mlp.down_proj": 1},
}
"""By the setting that counts a layer's groups, the layers' weights, and along which axis each is made of them.

A group is what only works together: a key-value head with its query heads, and a channel of the MLP.
"""

LAYER = re.compile(r"(?<=\.layers\.)\d+(?=\.)")


def require_prunable(model: Any) -> None:
    """Raise ValueError for an LLM, possibly on the meta device, of no architecture in `ARCHITECTURES`."""
    kind = model.config.get_text_config().model_type
    if kind not in ARCHITECTURES:
        raise ValueError(
            f"base_model.steps prunes or drops layers of the base LLM, which is a {kind}; expected one of "
            f"{', '.join(ARCHITECTURES)}: choose another `source` of the catalog entry `base_llm`, or other steps."
        )


def importances(
    llm: LanguageModel,
    prompts: PromptSet,
    answers: PromptFormat,
    config: ImportanceConfig,
    tokens_per_batch: int,
    seed: int,
) -> dict[str, Tensor]:
    """Return the importance of each weight by name: |w g|, the first-order change of the loss without it.

    g is the gradient of the mean loss of reading and answering calibration prompts (LLM-Pruner, arXiv 2305.11627,
    equation 5, without its second order). As a control, importance is drawn at random.
    """
    if config.importance == "random":
        generator = torch.Generator().manual_seed(seed)
        return {name: torch.rand(weight.shape, generator=generator) for name, weight in llm.model.named_parameters()}
    trained = tuning.trainable_copy(llm)
    named = dict(trained.model.named_parameters())
    rows, losses = calibration_rows(prompts, config, seed), tuning.prompt_losses(prompts, answers)
    budget = TokenBudget(tokens_per_batch)
    tuning.set_gradients(trained, rows, prompts.lengths, losses, list(named.values()), budget)
    return {name: (weight.detach() * weight.grad).abs() for name, weight in named.items()}


def layer_importances(
    llm: LanguageModel,
    prompts: PromptSet,
    answers: PromptFormat,
    config: DropLayersConfig,
    tokens_per_batch: int,
    seed: int,
) -> np.ndarray:
    """Return the importance of each layer, shape (layers,): the loss without it, or the sum over its weights.

    The loss is the mean over calibration prompts of reading and answering them (Shortened LLaMA, arXiv 2402.02834,
    whose two criteria are perplexity and Taylor); it is 0 for layers to keep.
    """
    count = llm.model.config.get_text_config().num_hidden_layers
    of_layers = np.zeros(count)
    if config.importance != "loss":
        for name, values in importances(llm, prompts, answers, config, tokens_per_batch, seed).items():
            if place := LAYER.search(name):
                of_layers[int(place[0])] += values.double().sum().item()
        return of_layers
    rows, may_go = calibration_rows(prompts, config, seed), droppable(count, config)
    with torch.inference_mode(), Progress("leave out layers", len(may_go) * len(rows), "prompts") as progress:

        def losses(part: np.ndarray) -> np.ndarray:
            batch, labels, of_part = prompts.batch(part, llm.device), prompts.labels[part], np.zeros(count)
            for layer, logits in logits_without(llm, batch.token_ids, may_go):
                of_part[layer] = (
                    tuning.reading_and_answering_losses(logits, batch, labels, answers).double().sum().item()
                )
                progress.update(len(part))
            return of_part

        for _, of_part in TokenBudget(tokens_per_batch).run(rows, prompts.lengths, losses):
            of_layers += of_part / len(rows)
    return of_layers


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


def calibration_rows(prompts: PromptSet, config: ImportanceConfig, seed: int) -> np.ndarray:
    """Return the rows whose loss measures importance."""
    return np.random.default_rng(seed).permutation(len(prompts.labels))[: config.calibration_prompts]


def prune(
    llm: LanguageModel, importance: Mapping[str, Tensor], config: PruneConfig
) -> tuple[LanguageModel, dict[str, float]]:
    """Remove the least important groups of every layer; return how many are left (LLM-Pruner, arXiv 2305.11627).

    Every layer loses equally many groups, as a configuration of transformers has one number for all layers; each layer
    loses its own least important ones, and keeps at least one of each kind. The ratio 0 changes no weight.
    Importance is that of `importances`, and the share of the groups is rounded to whole ones.
    """
    settings = llm.model.config.get_text_config()
    state, changes = dict(llm.model.state_dict()), dict[str, Any]()
    for setting, parts in COUPLED.items():
        count = getattr(settings, setting)
        changes[setting] = left = max(1, count - round(config.ratio * count))
        for layer in range(settings.num_hidden_layers):
            names = {f"model.layers.{layer}.{part}": axis for part, axis in parts.items()}
            of_groups = sum(
                importance[f"{name}.weight"].movedim(axis, 0).reshape(count, -1).sum(1) for name, axis in names.items()
            )
            kept = torch.as_tensor(of_groups).topk(left).indices.sort().values
            for name, axis in names.items():
                for tensor in [f"{name}.weight", *([f"{name}.bias"] if axis == 0 and f"{name}.bias" in state else [])]:
                    groups = state[tensor].unflatten(axis, (count, -1))
                    state[tensor] = groups.index_select(axis, kept.to(groups.device)).flatten(axis, axis + 1)
    queries = settings.num_attention_heads // settings.num_key_value_heads
    head_dim = getattr(settings, "head_dim", None) or settings.hidden_size // settings.num_attention_heads
    changes |= {"num_attention_heads": changes["num_key_value_heads"] * queries, "head_dim": head_dim}
    account = {name: changes[name] for name in ("num_attention_heads", *COUPLED)}
    return resized(llm, changes, state), account


def drop_layers(
    llm: LanguageModel, importance: np.ndarray, config: DropLayersConfig
) -> tuple[LanguageModel, dict[str, float]]:
    """Remove the least important layers, and return the number of remaining ones (Shortened LLaMA, arXiv 2402.02834).

    Importance is that of `layer_importances`.
    """
    count = llm.model.config.get_text_config().num_hidden_layers
    may_go = droppable(count, config)
    dropped = may_go[np.argsort(importance[may_go], kind="stable")[: config.layers]]
    kept = np.setdiff1d(np.arange(count), dropped)
    return with_layers(llm, kept), {"num_hidden_layers": len(kept)}


def droppable(count: int, config: DropLayersConfig) -> np.ndarray:
    """Return the numbers of the layers that may be dropped."""
    return np.arange(config.spare_first, max(config.spare_first, count - config.spare_last))


def require_droppable(count: int, config: DropLayersConfig) -> None:
    """Raise ValueError if more layers are to be dropped than there are between those to keep."""
    if config.layers > (may_go := len(droppable(count, config))):
        raise ValueError(
            f"base_model.drop_layers.layers is {config.layers}, but of {count} layers of the base LLM only {may_go} "
            f"may be dropped, because the first {config.spare_first} and the last {config.spare_last} stay: lower it."
        )


def with_layers(llm: LanguageModel, kept: Sequence[int] | np.ndarray) -> LanguageModel:
    """Return the LLM with only some of its layers, by number, in this order."""
    settings = llm.model.config.get_text_config()
    number = {int(old): new for new, old in enumerate(kept)}
    of_layers = {
        name: [values[place] for place in number]
        for name, values in settings.to_dict().items()
        if isinstance(values, list) and len(values) == settings.num_hidden_layers
    }
    state = {}
    for name, tensor in llm.model.state_dict().items():
        place = LAYER.search(name)
        if place is None or int(place[0]) in number:
            state[LAYER.sub(lambda match: str(number[int(match[0])]), name)] = tensor
    return resized(llm, {"num_hidden_layers": len(number), **of_layers}, state)


def resized(llm: LanguageModel, changes: Mapping[str, Any], state: Mapping[str, Tensor]) -> LanguageModel:
    """Return a model of the same architecture with other settings and these weights."""
    from transformers import AutoModelForCausalLM

    config = copy.deepcopy(llm.model.config)
    for name, value in changes.items():
        setattr(config, name, value)
    model = AutoModelForCausalLM.from_config(config, dtype=llm.model.dtype, attn_implementation="sdpa")
    model.load_state_dict(state)
    if llm.model.config._attn_implementation != model.config._attn_implementation:
        model.set_attn_implementation(llm.model.config._attn_implementation)
    return tuning.with_weights(llm, model.requires_grad_(False).eval().to(llm.device))


def shrink(
    weigh: Callable[..., Any],
    cut: Callable[..., tuple[LanguageModel, Account]],
    llm: LanguageModel,
    material: Material,
    own: ImportanceConfig,
    config: BaseModelConfig,
) -> tuple[LanguageModel, Account]:
    """Cut away the least important parts, then tune the rest to read and answer prompts of the training split."""
    prompts, answers, tokens = material.few_shot, material.answers, config.tokens_per_batch
    importance = weigh(llm, prompts, answers, own, tokens, config.seed)
    smaller, account = cut(llm, importance, own)
    losses = tuning.prompt_losses(prompts, answers)
    smaller, tuned = tuning.tune(smaller, prompts.lengths, losses, config.recovery, tokens, config.seed)
    return smaller, account | tuned
