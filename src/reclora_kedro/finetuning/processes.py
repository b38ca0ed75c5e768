"""Fine-tuning in several processes: a folder holds all that they need, and takes what they leave.

Kedro starts the processes by itself. By hand, on a folder of :func:`write_job`:

```console
accelerate launch --multi_gpu --num_processes 4 --module reclora_kedro.finetuning.processes FOLDER
```

The adapter is then in ``FOLDER/trained``. Without a GPU the same command works, too: processes then meet through gloo.
"""

import ctypes
import json
import logging
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import torch
from accelerate import Accelerator
from peft import set_peft_model_state_dict
from safetensors.torch import load, load_file

from reclora_kedro.adapters.gate_inputs import GateInputs
from reclora_kedro.adapters.methods import restore_adapter
from reclora_kedro.distributed.engine import train_together
from reclora_kedro.files.scratch import scratch_folder
from reclora_kedro.finetuning.checkpoints import CheckpointStore
from reclora_kedro.finetuning.training import TrainingConfig, train_adapter
from reclora_kedro.llm.answer_model import AnswerModel, PackedModel
from reclora_kedro.llm.language_model import load_language_model
from reclora_kedro.llm.prompt_set import PromptSet
from reclora_kedro.llm.prompts import PromptFormat

logger = logging.getLogger(__name__)

WEIGHTS = "adapter_model.safetensors"


def train_in_processes(
    model: AnswerModel,
    few_shot: PromptSet,
    validation: PromptSet,
    config: TrainingConfig,
    checkpoints: CheckpointStore | None = None,
) -> pl.DataFrame:
    """Do what :func:`reclora_kedro.finetuning.training.train_adapter` does, in as many processes as the settings say.

    With more than one, the model leaves the GPU to them for good. Where the model's engine has workers, they train.

    Raises:
        ShardError: the workers failed.
        RuntimeError: the processes failed; the message holds the reason of the first.
        ValueError: there are fewer GPUs than processes.
    """
    if model.engine.spreads:
        job = partial(_train_packed, model.packed(), few_shot, validation, config, checkpoints)
        adapter, log = train_together(job, model.engine, "fine-tuning")
        set_peft_model_state_dict(model.model, load(adapter[WEIGHTS]))
        model.model.eval()
        return log
    if config.processes == 1:
        return train_adapter(model, few_shot, validation, config, checkpoints)
    gpus = torch.cuda.device_count()
    if model.device.type == "cuda" and gpus < config.processes:
        raise ValueError(
            f"The training's `processes` is {config.processes}, but this machine has {gpus} GPUs and each process "
            "takes one: lower it."
        )
    with scratch_folder() as name:
        folder = Path(name)
        write_job(folder, model, {"few_shot": few_shot, "validation": validation}, config, checkpoints)
        model.model.to("cpu")
        torch.cuda.empty_cache()
        launch(folder, config.processes)
        set_peft_model_state_dict(model.model, load_file(folder / "trained" / WEIGHTS))
        model.model.eval()
        return pl.read_parquet(folder / "training_log.parquet")


def write_job(
    folder: Path,
    model: AnswerModel,
    prompts: dict[str, PromptSet],
    config: TrainingConfig,
    checkpoints: CheckpointStore | None = None,
) -> None:
    """Write all that a process needs to train: prompts by use, gate inputs, the initial adapter and the settings."""
    for use, part in prompts.items():
        assert part.gate_inputs is not None  # adapters are trained with them
        (folder / f"{use}.safetensors").write_bytes(part.gate_inputs.to_bytes())
        columns = {name: value for name, value in vars(part).items() if name != "gate_inputs"}
        pl.DataFrame(columns).write_parquet(folder / f"{use}.parquet")
    model.model.save_pretrained(folder / "adapter")
    settings = {
        "base_llm": model.llm.arguments,
        "prompt_format": asdict(model.prompt_format),
        "blend": model.blend,
        "training": config.model_dump(),
        "checkpoints": [checkpoints.folder, checkpoints.training, checkpoints.options] if checkpoints else None,
    }
    (folder / "settings.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")


def read_prompts(folder: Path, use: str) -> PromptSet:
    """Prompts as :func:`write_job` left them."""
    table = pl.read_parquet(folder / f"{use}.parquet")
    columns: dict[str, Any] = {
        name: table[name].to_list() if name == "token_ids" else table[name].to_numpy() for name in table.columns
    }
    return PromptSet(**columns, gate_inputs=GateInputs.from_bytes((folder / f"{use}.safetensors").read_bytes()))


def _train_packed(
    packed: PackedModel,
    few_shot: PromptSet,
    validation: PromptSet,
    config: TrainingConfig,
    checkpoints: CheckpointStore | None,
) -> tuple[dict[str, bytes], pl.DataFrame]:
    """What each worker of an engine does; return the trained adapter's files and the log."""
    model = packed.load(trainable=True)
    Accelerator(cpu=model.device.type == "cpu")  # joins the group that the engine has formed
    log = train_adapter(model, few_shot, validation, config, checkpoints)
    return model.packed().adapter, log


def launch(folder: Path, processes: int) -> None:
    """Run the processes to their end; what they print to stdout is logged, their stderr is this process's.

    Raises:
        RuntimeError: they failed.
    """
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", f"--num_processes={processes}"]
    command += ["--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0"]
    command += ["--module", "reclora_kedro.finetuning.processes", str(folder)]
    threads = str(max(1, (os.cpu_count() or 1) // processes))
    environment = {"OMP_NUM_THREADS": threads, **os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment, preexec_fn=end_with_parent
    ) as process:
        for line in process.stdout or ():
            logger.info(line.rstrip())
    reason = folder / "error.txt"
    if process.returncode:
        raise RuntimeError(
            f"Fine-tuning in {processes} processes failed, with exit code {process.returncode}: "
            f"{reason.read_text() if reason.exists() else 'see what they printed above.'}"
        )


def end_with_parent() -> None:
    """Have Linux end the calling process when its parent dies, however that happens (man 2 prctl)."""
    parent_death_signal = 1
    ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGTERM)


def work(folder: Path) -> None:
    """What each process does: train on the folder's job; the main one leaves the adapter and the log there."""
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    accelerator = Accelerator(cpu=settings["base_llm"]["device"] == "cpu")
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    llm = load_language_model(**settings["base_llm"] | {"device": str(accelerator.device)})
    adapted = restore_adapter(llm.model, str(folder / "adapter"), trainable=True)
    model = AnswerModel(llm.with_model(adapted), PromptFormat(**settings["prompt_format"]), settings["blend"])
    log = train_adapter(
        model,
        read_prompts(folder, "few_shot"),
        read_prompts(folder, "validation"),
        TrainingConfig(**settings["training"]),
        CheckpointStore(*settings["checkpoints"]) if settings["checkpoints"] else None,
    )
    if accelerator.is_main_process:
        model.model.save_pretrained(folder / "trained")
        log.write_parquet(folder / "training_log.parquet")
    accelerator.end_training()


if __name__ == "__main__":
    try:
        work(Path(sys.argv[1]))
    except Exception as error:
        Path(sys.argv[1], "error.txt").write_text(f"{type(error).__name__}: {error}", encoding="utf-8")
        raise
