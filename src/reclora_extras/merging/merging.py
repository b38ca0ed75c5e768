"""Merge several LoRAs into one: by the inputs of the merged model (IterIS), and by PEFT's own ways."""

import logging
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn
from torch.nn import functional

from reclora_extras.merging.config import BASELINES, ITERIS, MergingConfig
from reclora_kedro.adapters.lora import Lora
from reclora_kedro.devices import seeded
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.questions import questions
from reclora_kedro.llm.answer_model import answering_model
from reclora_kedro.llm.batching import TokenBudget
from reclora_kedro.llm.language_model import LanguageModel
from reclora_kedro.llm.prompt_set import PromptBatch, PromptSet, prompt_set
from reclora_kedro.llm.prompts import PromptConfig
from reclora_kedro.progress import Progress

logger = logging.getLogger(__name__)

DENSITY = 0.5  # share of entries that TIES and DARE keep; not tuned
TOLERANCE = 1e-3  # change of all updates, as a share of their norm, at which the iterations have converged
RIDGE = 1e-6
"""Penalty of the distance from each LoRA, as a share of the norm of its inputs' products: inputs that span fewer
dimensions than a layer reads have no solution without it."""


def draw_calibration(log: InteractionLog, users: np.ndarray | None, config: MergingConfig) -> pl.DataFrame:
    """Draw training samples, of each LoRA's user or of all uniformly, whose prompts give the inputs of the layers.

    ValueError is raised for a single user, or one without a training sample.
    """
    train, random = log.samples_in("train"), np.random.default_rng(config.seed)
    pools = [train]
    if users is not None:
        if len(users) < 2:
            raise ValueError("export names one user, but merging takes two LoRAs or more: name more users there.")
        pools = [train.filter(user_index=int(user)) for user in users]
        if without := [int(user) for user, pool in zip(users, pools, strict=True) if pool.is_empty()]:
            raise ValueError(
                f"The users {', '.join(map(str, log.users['user_id'][without]))} have LoRAs to merge, but no training "
                "sample to calibrate with: export LoRAs of users who have one, see export.users."
            )
    return pl.concat(questions(pool[random.permutation(pool.height)[: config.prompts]], "few_shot") for pool in pools)


@dataclass(frozen=True)
class MergedLoras:
    """Merged LoRAs by method."""

    loras: dict[str, Lora]

    def save(self, folder: Path, before: Path | None = None) -> None:
        """Write a folder per LoRA for stock PEFT, and a README.md."""
        for name, lora in self.loras.items():
            lora.save(folder / name)
        ways = ", ".join(self.loras)
        (folder / "README.md").write_text(f"# One LoRA out of several, merged in {len(self.loras)} ways: {ways}\n")


def merge_loras(
    llm: LanguageModel,
    loras: Mapping[str, Lora],
    prompts: Mapping[str, PromptSet],
    config: MergingConfig,
    tokens_per_batch: int,
) -> tuple[MergedLoras, pl.DataFrame]:
    """Return one LoRA by `iterate`, on each LoRA's prompts, and by each of `BASELINES`, and the log of `iterate`.

    The LLM is left without any. ValueError is raised for LoRAs of different ranks, or on different layers.
    """
    from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    first = next(iter(loras.values()))
    for name, lora in loras.items():
        if lora.config.r != first.config.r or lora.factors.keys() != first.factors.keys():
            raise ValueError(
                f"The LoRA {name} has rank {lora.config.r} on {len(lora.factors)} layers, but the first one has rank "
                f"{first.config.r} on {len(first.factors)}: merge LoRAs of one rank on the same layers."
            )
    rank = first.config.r
    adapted = get_peft_model(llm.model, first.config, "part_0")
    # Their own names may be the model's, too.
    parts = {f"part_{number}": lora for number, lora in enumerate(loras.values())}
    for part, lora in parts.items():
        if part != "part_0":
            adapted.add_adapter(part, lora.config)
        set_peft_model_state_dict(adapted, lora.tensors, part)
    adapted.requires_grad_(False).eval()
    try:
        updates = {name: lora.updates() for name, lora in loras.items()}
        merged, log = iterate(llm.with_model(adapted), updates, prompts, config, tokens_per_batch)
        ways = {ITERIS: Lora.from_updates(first.config, merged, rank)}
        for name, (way, power) in BASELINES.items():
            weight = len(loras) ** -power
            with seeded(config.seed, llm.device):
                adapted.add_weighted_adapter(
                    list(parts), [weight] * len(parts), name, way, rank, svd_full_matrices=False, density=DENSITY
                )
            tensors = get_peft_model_state_dict(adapted, adapter_name=name)
            ways[name] = Lora.from_tensors(adapted.peft_config[name], tensors)
    finally:
        adapted.unload()
    return MergedLoras(ways), log


@torch.inference_mode()
def iterate(
    llm: LanguageModel,
    updates: Mapping[str, Mapping[str, Tensor]],
    prompts: Mapping[str, PromptSet],
    config: MergingConfig,
    tokens_per_batch: int,
) -> tuple[dict[str, Tensor], pl.DataFrame]:
    """Return the update of each layer that is nearest to all LoRAs' outputs on their own prompts (IterIS).

    Chen et al. 2024, arXiv 2411.15231: a layer's W* solves the sum of the LoRAs' `normal_equations`, in which X~ are
    the layer's inputs in the merged model, so that solving and running the model alternate. In iteration 0 they are
    each LoRA's own inputs. A LoRA's error has the weight ``c_i = ‖W_i‖² / ‖W_i X_i‖²``, as in the authors' code.

    The LLM is a PEFT model, whose own LoRA layers are not used; `updates` are each LoRA's, of layers by path, (out,
    in). It returns the update by path, float32, and a log with iteration, change (of all updates, as a share of their
    norm; null for the first) and seconds.
    """
    tuner, budget = llm.model.base_model, TokenBudget(tokens_per_batch)
    layers = {path: tuner.model.get_submodule(path).get_base_layer() for path in next(iter(updates.values()))}
    base = {path: weights_of(layer).double() for path, layer in layers.items()}
    weights: dict[tuple[str, str], float] = {}
    merged: dict[str, Tensor] | None = None
    records, start = [], time.perf_counter()
    with llm.model.disable_adapter(), Progress("merge", config.iterations + 1, "iterations") as progress:
        for iteration in range(config.iterations + 1):
            equations: dict[str, Tensor] = {}
            for name, own in updates.items():
                for path, (cross, gram) in moments(llm, layers, own, merged, prompts[name], budget).items():
                    update = own[path].to(gram)
                    if merged is None:
                        W = base[path] + update
                        output = torch.einsum("oi,ij,oj->", W, gram, W)
                        weights[name, path] = (W.square().sum() / output).item()
                    anchor = base[path] if config.solve_for == "weight" else torch.zeros_like(update)
                    terms = weights[name, path] * normal_equations(anchor, update, cross, gram)
                    equations[path] = equations.get(path, 0) + terms
            before, merged = merged, {path: solve(equations[path]) for path in layers}
            change = None if before is None else relative_change(before, merged)
            seconds = time.perf_counter() - start
            records.append({"iteration": iteration, "change": change, "seconds": seconds})
            progress.update(1)
            if change is not None and change <= TOLERANCE:
                break
    logger.info("Merged %d LoRAs in %d iterations", len(updates), len(records))
    assert merged is not None
    return merged, pl.DataFrame(records, {"iteration": pl.Int64, "change": pl.Float64, "seconds": pl.Float64})


def normal_equations(base: Tensor, update: Tensor, cross: Tensor, gram: Tensor) -> Tensor:
    """Return one LoRA's addends to both sides of a layer's normal equations, concatenated: (out + in, in).

    They minimise Σ_i c_i (‖W_i X_i − W* X~_i‖² + ridge_i ‖W_i − W*‖²), whose solution is ``W* = [Σ c_i W_i (X_iᵀ X~_i +
    ridge_i I)] [Σ c_i (X~_iᵀ X~_i + ridge_i I)]⁻¹`` (IterIS, arXiv 2411.15231).

    `base` is the common part of W_i and W*, float64, (out, in): the layer's weights without any LoRA, so that the
    update, W_i less `base`, makes up for changed inputs; or zeros to solve for the update alone
    (``with_pretrain_matrix: 0`` of the authors' code). `cross` is X_iᵀ X~_i, and `gram` X~_iᵀ X~_i, (in, in).
    """
    added = RIDGE * gram.norm() * torch.eye(len(gram)).to(gram)
    # Solved for the update, which is small beside the layer's weights.
    return torch.cat([(base + update) @ (cross + added) - base @ (gram + added), gram + added])


def solve(equations: Tensor) -> Tensor:
    """Return the update, W* less the base, float32, (out, in), from the sum of `normal_equations`."""
    left, right = equations.split([len(equations) - equations.shape[1], equations.shape[1]])
    return torch.linalg.solve(right, left.mT).mT.float()


def moments(
    llm: LanguageModel,
    layers: Mapping[str, nn.Module],
    own: Mapping[str, Tensor],
    merged: Mapping[str, Tensor] | None,
    prompts: PromptSet,
    budget: TokenBudget,
) -> dict[str, Tensor]:
    """Return X_iᵀ X~_i and X~_iᵀ X~_i of each layer over the prompts of one LoRA, float64, (2, in, in).

    Before there is a merged model, its inputs are the LoRA's own.
    """

    def inputs_of(rows: np.ndarray) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        batch = prompts.batch(rows, llm.device)
        inputs = layer_inputs(llm, layers, own, batch)
        return inputs, inputs if merged is None else layer_inputs(llm, layers, merged, batch)

    sums: dict[str, Tensor] = {}
    for _, (inputs, met) in budget.run(np.arange(len(prompts.labels)), prompts.lengths, inputs_of):
        products: dict[tuple[int, int], Tensor] = {}  # layers that read the same have the same
        for path in layers:
            pair = []
            for x in (inputs[path], met[path]):
                key = id(x), id(met[path])
                if key not in products:
                    products[key] = (x.float().mT @ met[path].float()).double()
                pair.append(products[key])
            sums[path] = sums.get(path, 0) + torch.stack(pair)
    return sums


def layer_inputs(
    llm: LanguageModel, layers: Mapping[str, nn.Module], updates: Mapping[str, Tensor], batch: PromptBatch
) -> dict[str, Tensor]:
    """Return each layer's inputs for a batch's tokens, (tokens, in), without padding, with updates added."""
    seen: dict[str, Tensor] = {}

    def adding(path: str) -> Any:
        update = updates[path].to(llm.device)

        def add(_: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
            seen[path] = arguments[0]
            return output + functional.linear(arguments[0], update.to(arguments[0]))

        return add

    with ExitStack() as hooks:
        for path, layer in layers.items():
            hooks.enter_context(layer.register_forward_hook(adding(path)))
        llm.last_hidden_states(batch.token_ids)
    real = torch.arange(batch.token_ids.shape[1], device=batch.last.device) <= batch.last[:, None]
    # Some layers, such as those of OPT's MLP, read the tokens of all prompts in one row.
    tokens = {id(x): x.reshape(*real.shape, -1)[real] for x in seen.values()}
    return {path: tokens[id(x)] for path, x in seen.items()}


def weights_of(layer: nn.Module) -> Tensor:
    """Return the weights of a linear layer, quantised or not: (out, in)."""
    from peft.utils.integrations import dequantize_module_weight
    from transformers.pytorch_utils import Conv1D

    weights = dequantize_module_weight(layer).detach()
    return weights.mT if isinstance(layer, Conv1D) else weights


def relative_change(before: Mapping[str, Tensor], now: Mapping[str, Tensor]) -> float:
    """Return the norm of the change as a share of the present norm."""
    changed = sum((now[path] - before[path]).square().sum().item() for path in now)
    whole = sum(update.square().sum().item() for update in now.values())
    return (changed / whole) ** 0.5 if whole else 0.0


def new_user_rows(prompts: pl.DataFrame, log: InteractionLog, config: MergingConfig) -> pl.DataFrame:
    """Return at most `MergingConfig.test_rows` random test prompts of users without a training sample.

    ValueError is raised if there are none.
    """
    trained = log.samples_in("train").select("user_index").unique()
    new = prompts.filter(use="test").join(trained, on="user_index", how="anti")
    if new.is_empty():
        raise ValueError(
            "Merged LoRAs are scored on test rows of users without training rows, but the test prompts have none: "
            "split the log by time (history.split.kind: global_time), or draw more rows (history.prompt_rows.test)."
        )
    order = np.random.default_rng(config.seed).permutation(new.height)
    return new[np.sort(order[: config.test_rows])]


def score_loras(
    llm: LanguageModel, folder: Path, prompts: pl.DataFrame, prompt_config: PromptConfig, tokens_per_batch: int
) -> pl.DataFrame:
    """Return scores of test prompts by each LoRA in a folder: row, user, label, model and score."""
    from peft import PeftModel

    test, rows = prompt_set(prompts, "test"), prompts.select("row", "label", user="user_index")
    tables = []
    for path in sorted(part for part in folder.iterdir() if part.is_dir()):
        adapted = PeftModel.from_pretrained(llm.model, path).eval()
        model = answering_model(llm.with_model(adapted), prompt_config)
        scores = pl.Series("score", model.scores(test, tokens_per_batch, f"score {path.name}"))
        tables.append(rows.select("row", "user", "label", pl.lit(path.name).alias("model"), scores))
        adapted.unload()
    return pl.concat(tables)
