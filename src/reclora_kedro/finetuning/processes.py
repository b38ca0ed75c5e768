"""Fine-tuning in this process, in several local ones, or on the workers of an engine."""

from collections.abc import Callable
from functools import partial

import polars as pl
import torch
from safetensors.torch import load

from reclora_kedro.distributed.checkpoints import CheckpointStore
from reclora_kedro.distributed.engine import train_together
from reclora_kedro.distributed.group import Group, train_in_processes
from reclora_kedro.finetuning.config import TrainingConfig
from reclora_kedro.finetuning.examples import Examples
from reclora_kedro.finetuning.training import train_adapter
from reclora_kedro.llm.answer_model import AnswerModel, PackedModel
from reclora_kedro.llm.prompt_set import PromptSet


def fine_tune(
    model: AnswerModel,
    examples: Examples,
    validation: PromptSet,
    config: TrainingConfig,
    checkpoints: CheckpointStore | None = None,
    *,
    proximal_weight: float = 0.0,
) -> pl.DataFrame:
    """Run :func:`reclora_kedro.finetuning.training.train_adapter` in the processes that the settings ask for.

    If the model's engine has workers, they train; otherwise ``config.processes`` local processes do, and
    meanwhile the model leaves the GPU to them.

    Raises:
        ShardError: the workers failed.
        RuntimeError: the processes failed; the message holds the reason of the first.
        ValueError: there are fewer GPUs than processes.
    """
    train = partial(
        train_adapter,
        examples=examples,
        validation=validation,
        config=config,
        checkpoints=checkpoints,
        proximal_weight=proximal_weight,
    )
    if not model.engine.spreads and config.processes == 1:
        return train(model)
    train_packed = partial(_train_packed, model.packed(), train)
    if model.engine.spreads:
        weights, log = train_together(train_packed, model.engine, "fine-tuning")
    else:
        gpus = torch.cuda.device_count()
        if model.device.type == "cuda" and gpus < config.processes:
            raise ValueError(
                f"The training's `processes` is {config.processes}, but this machine has {gpus} GPUs and each process "
                "takes one: lower it."
            )
        device = model.device
        model.model.to("cpu")
        torch.cuda.empty_cache()
        try:
            weights, log = train_in_processes(train_packed, config.processes, "Fine-tuning")
        finally:
            model.model.to(device)
    from peft import set_peft_model_state_dict

    set_peft_model_state_dict(model.model, load(weights))
    model.model.eval()
    return log


def _train_packed(packed: PackedModel, train: Callable[..., pl.DataFrame], group: Group) -> tuple[bytes, pl.DataFrame]:
    """Train in one process of a group; return the trained adapter's weights and the log."""
    model = packed.load(trainable=True)
    log = train(model, group=group)
    return model.packed().adapter["adapter_model.safetensors"], log
