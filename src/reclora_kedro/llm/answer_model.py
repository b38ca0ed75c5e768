"""An LLM that answers prompts with Yes or No as a CTR model: one logit per prompt."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kedro_provenance.files.digests import digest
from kedro_provenance.files.scratch import scratch_folder
from reclora_kedro.adapters.base import AdapterMethod
from reclora_kedro.adapters.methods import load_adapter, method_of, restore_adapter
from reclora_kedro.distributed.checkpoints import FinishedShards
from reclora_kedro.distributed.engine import LOCAL, EngineConfig, OncePerWorker, map_shards
from reclora_kedro.gate_inputs import GateInputs
from reclora_kedro.llm import Blend
from reclora_kedro.llm.batching import TokenBudget
from reclora_kedro.llm.language_model import LanguageModel
from reclora_kedro.llm.prompt_set import PromptBatch, PromptSet
from reclora_kedro.llm.prompts import PromptConfig, PromptFormat, prompt_format
from reclora_kedro.progress import Progress


@dataclass(frozen=True)
class AnswerModel:
    """A base LLM with its prompt format and, optionally, an adapter (RecLoRA, section 3.1).

    The score of a prompt is ``softmax(logits[Yes], logits[No])[Yes]`` at its last position, which is the sigmoid of
    ``logits[Yes] - logits[No]``. Only these two rows of the head are computed, at that position only.
    """

    llm: LanguageModel  # whose model may be a PEFT model around the base LLM
    prompt_format: PromptFormat
    blend: Blend = "none"  # how the lens's logit enters scores; training uses the LLM's logit alone
    engine: EngineConfig = LOCAL
    finished: FinishedShards | None = None  # logits of finished shards, so that an interrupted scoring resumes

    @property
    def model(self) -> Any:
        return self.llm.model

    @property
    def device(self) -> torch.device:
        return self.llm.device

    @property
    def method(self) -> AdapterMethod:
        """The method of the adapter; without an adapter, one that does nothing."""
        return method_of(self.model)

    @property
    def has_gates(self) -> bool:
        return self.is_adapted and self.method.has_gates(self.model.active_peft_config)

    @property
    def is_adapted(self) -> bool:
        from peft import PeftModel

        return isinstance(self.model, PeftModel)

    def gate_context(self, gate_inputs: GateInputs | None) -> AbstractContextManager[None]:
        """Personalize the forward passes inside the context by the gate inputs of their rows, if any."""
        return self.method.context(self.model, None if gate_inputs is None else gate_inputs.values)

    def logits(self, batch: PromptBatch) -> Tensor:
        """Return the logit of the positive against the negative answer, blended with the lens's: (batch,)."""
        return self.blended(self.llm_logits(batch), batch.gate_inputs)

    def llm_logits(self, batch: PromptBatch) -> Tensor:
        """Return the LLM's own logits of the positive against the negative answer, shape (batch,)."""
        with self.gate_context(batch.gate_inputs):
            states = self.llm.last_hidden_states(batch.token_ids)
        return self.llm_logits_of(states[torch.arange(len(batch.last), device=batch.last.device), batch.last])

    def llm_logits_of(self, hidden: Tensor) -> Tensor:
        """Return the LLM's own logits, shape (batch,), from final hidden states, shape (batch, hidden)."""
        logits = self.llm.token_logits(hidden, [self.prompt_format.positive, self.prompt_format.negative])
        return logits[:, 0] - logits[:, 1]

    def blended(self, llm_logits: Tensor, gate_inputs: GateInputs | None) -> Tensor:
        """Blend the LLM's logits with the lens's, (prompts,); raise ValueError if the blend needs the latter."""
        if self.blend == "none":
            return llm_logits
        if gate_inputs is None:
            raise ValueError(
                f"blend is {self.blend}, which reads the lens's logits beside the LLM's, but none were given: score "
                "prompts with their gate inputs, or set the variant's blend to none."
            )
        return (llm_logits + gate_inputs.lens_logits) / 2

    def scores(self, prompts: PromptSet, tokens_per_batch: int, description: str) -> np.ndarray:
        """Return the probability of a like for each prompt, float64, shape (prompts,); see `all_llm_logits`."""
        return self.probabilities(self.all_llm_logits(prompts, tokens_per_batch, description), prompts)

    @torch.inference_mode()
    def probabilities(self, llm_logits: np.ndarray, prompts: PromptSet) -> np.ndarray:
        """Return the probabilities of a like from the LLM's own logits and, if blended, the lens's: (prompts,)."""
        return torch.sigmoid(self.blended(torch.from_numpy(llm_logits), prompts.gate_inputs)).numpy()

    @torch.inference_mode()
    def all_llm_logits(
        self, prompts: PromptSet, tokens_per_batch: int, description: str, share: tuple[int, int] = (0, 1)
    ) -> np.ndarray:
        """Return the LLM's own logit of each prompt, float64, shape (prompts,).

        With a `share`, the number of this process and the count of processes, only this share is scored, and other
        logits are 0, so that the sum over all processes is complete.
        """
        if share == (0, 1) and (self.engine.spreads or self.finished is not None):
            return self._llm_logits_in_shards(prompts, tokens_per_batch, description)
        logits, (process, processes) = np.zeros(len(prompts.labels)), share
        rows = np.arange(process, len(logits), processes)

        def answer(batch: np.ndarray) -> np.ndarray:
            return self.llm_logits(prompts.batch(batch, self.device)).double().cpu().numpy()

        with Progress(description, len(rows), "rows", shown=not process) as progress:
            for batch, batch_logits in TokenBudget(tokens_per_batch).run(rows, prompts.lengths, answer):
                logits[batch] = batch_logits
                progress.update(len(batch))
        return logits

    def _llm_logits_in_shards(self, prompts: PromptSet, tokens_per_batch: int, description: str) -> np.ndarray:
        """Score shard by shard on the engine, without the shards that are already finished."""
        logits, shards = np.zeros(len(prompts.labels)), self.engine.shards(len(prompts.labels))
        scorer = replace(self, finished=None)

        def run(places: Sequence[int]) -> Iterator[np.ndarray]:
            pending = [prompts.take(shards[place]) for place in places]
            if self.engine.spreads:
                score = partial(AnswerModel.all_llm_logits, tokens_per_batch=tokens_per_batch, description="score")
                return scorer.on_workers(score, [(shard,) for shard in pending], description)
            return (scorer.all_llm_logits(shard, tokens_per_batch, description) for shard in pending)

        if self.finished is None:
            logits_by_shard: Iterable[tuple[int, np.ndarray]] = enumerate(run(range(len(shards))))
        else:
            logits_by_shard = self.finished.resume([name_of(prompts.take(rows)) for rows in shards], run)
        for place, shard_logits in logits_by_shard:
            logits[shards[place]] = shard_logits
        return logits

    def on_workers(
        self, answer: Callable[..., np.ndarray], shards: Sequence[tuple[Any, ...]], step: str
    ) -> Iterator[np.ndarray]:
        """Yield results, in order, of a picklable function of model and shard, on workers that load the model once."""
        work = OncePerWorker(partial(_answering, self.packed(), answer))
        return map_shards(work, shards, self.engine, step)

    def packed(self) -> "PackedModel":
        """Pack what another process needs to load the same model."""
        files = {}
        if self.is_adapted:
            with scratch_folder() as folder:
                self.model.save_pretrained(folder)
                files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
        load = self.llm.loader(self.engine.uses_gpus or not self.engine.spreads)
        return PackedModel(load, self.prompt_format, self.blend, files)


def answering_model(
    base_llm: LanguageModel,
    prompt_config: PromptConfig,
    engine: EngineConfig = LOCAL,
    *,
    adapter: str | None = None,
    gate_inputs: GateInputs | None = None,
    blend: Blend = "none",
) -> AnswerModel:
    """Build the model that answers prompts from the parts that a catalog holds, with the adapter in a folder, if any.

    MismatchError is raised for an adapter of another base LLM, or one that was trained on other gate inputs.
    """
    if adapter is not None:
        gate_input = (None, None) if gate_inputs is None else (gate_inputs.name, gate_inputs.width)
        base_llm = base_llm.with_model(load_adapter(base_llm.model, adapter, *gate_input))
    return AnswerModel(base_llm, prompt_format(base_llm.tokenizer, prompt_config), blend, engine)


@dataclass(frozen=True)
class PackedModel:
    """An answering model as sent to another process, which loads the base LLM; ``adapter`` has files by name."""

    load_llm: Callable[[], LanguageModel]
    prompt_format: PromptFormat
    blend: Blend
    adapter: dict[str, bytes]

    def load(self, *, trainable: bool = False) -> AnswerModel:
        llm = self.load_llm()
        if self.adapter:
            with scratch_folder() as folder:
                for name, content in self.adapter.items():
                    Path(folder, name).write_bytes(content)
                llm = llm.with_model(restore_adapter(llm.model, folder, trainable=trainable))
        return AnswerModel(llm, self.prompt_format, self.blend)


def name_of(prompts: PromptSet) -> str:
    """Return the digest of what the LLM's own logits of prompts depend on within a node: tokens and gate inputs."""
    gate_inputs = b"" if prompts.gate_inputs is None else prompts.gate_inputs.values.numpy().tobytes()
    return digest([prompts.token_ids, hashlib.sha256(gate_inputs).hexdigest()])


def _answering(packed: PackedModel, answer: Callable[..., np.ndarray]) -> Callable[[tuple[Any, ...]], np.ndarray]:
    model = packed.load()
    return lambda shard: answer(model, *shard)
