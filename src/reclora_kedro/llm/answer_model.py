"""An LLM that answers prompts with Yes or No, as a CTR model of text: one logit per prompt."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor

from kedro_provenance.files.digests import digest
from kedro_provenance.files.scratch import scratch_folder
from reclora_kedro.adapters.base import AdapterMethod
from reclora_kedro.adapters.gate_inputs import GateInputs
from reclora_kedro.adapters.methods import load_adapter, method_of, restore_adapter
from reclora_kedro.distributed.engine import LOCAL, EngineConfig, OncePerWorker, map_shards
from reclora_kedro.distributed.finished import FinishedShards
from reclora_kedro.llm.batching import TokenBudget
from reclora_kedro.llm.language_model import LanguageModel
from reclora_kedro.llm.prompt_set import PromptBatch, PromptSet
from reclora_kedro.llm.prompts import PromptConfig, PromptFormat, prompt_format
from reclora_kedro.progress import Progress

Blend = Literal["none", "average"]
"""How the lens's logit joins the LLM's in a score: not at all, or as the mean of both."""

SERVER_NOTES: dict[Blend, str] = {
    "none": "",
    "average": "Scores are of the mean of two logits (blend: average): a server must take the mean of the lens's logit "
    "and the LLM's logit of the answer. The LoRAs alone don't hold the lens's.",
}
"""What a server that loads an exported adapter alone has to add, by blend."""


@dataclass(frozen=True)
class AnswerModel:
    """A base LLM with its prompt format and, if any, an adapter (RecLoRA, section 3.1).

    The score of a prompt is ``softmax(logits[Yes], logits[No])[Yes]`` at its last position, which is the sigmoid of
    ``logits[Yes] - logits[No]``. Only those two rows of the head are used, at that position only.

    Attributes:
        llm: the base LLM; its model may be a PEFT model around it.
        prompt_format: what stands around a prompt's text, and the tokens of the two answers.
        blend: how the lens's logit joins the LLM's; training is of the LLM alone.
        engine: what many prompts are scored on; the workers of a cluster load the same model.
        finished: where the logits of finished shards are kept until all are there; None for nowhere.
    """

    llm: LanguageModel
    prompt_format: PromptFormat
    blend: Blend = "none"
    engine: EngineConfig = LOCAL
    finished: FinishedShards | None = None

    @property
    def model(self) -> Any:
        """The causal LM, with or without an adapter."""
        return self.llm.model

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.llm.device

    @property
    def method(self) -> AdapterMethod:
        """The adapter's method; for the LLM as it came, one that does nothing."""
        return method_of(self.model)

    @property
    def has_gates(self) -> bool:
        """Whether an adapter reads gate inputs."""
        return isinstance(self.model, PeftModel) and self.method.has_gates(self.model.active_peft_config)

    def with_model(self, model: Any) -> Self:
        """The same format and tokenizer with another model, such as this one with an adapter."""
        return replace(self, llm=self.llm.with_model(model))

    def gate_context(self, gate_inputs: GateInputs | None) -> AbstractContextManager[None]:
        """Forward passes inside are personalized by the gate inputs of their rows; None leaves them alone."""
        return self.method.context(self.model, None if gate_inputs is None else gate_inputs.values)

    def logits(self, batch: PromptBatch) -> Tensor:
        """Logit of the positive answer against the negative one, blended with the lens's, shape (batch,).

        Raises:
            ValueError: the adapter or the blend needs gate inputs that the batch does not have.
        """
        return self.blended(self.llm_logits(batch), batch.gate_inputs)

    def llm_logits(self, batch: PromptBatch) -> Tensor:
        """The LLM's own logit of the positive answer against the negative one, shape (batch,)."""
        with self.gate_context(batch.gate_inputs):
            states = self.llm.last_hidden_states(batch.token_ids)
        return self.llm_logits_of(states[torch.arange(len(batch.last), device=batch.last.device), batch.last])

    def llm_logits_of(self, hidden: Tensor) -> Tensor:
        """The same of the prompts' final hidden states, shape (batch, hidden)."""
        logits = self.llm.token_logits(hidden, [self.prompt_format.positive, self.prompt_format.negative])
        return logits[:, 0] - logits[:, 1]

    def blended(self, llm_logits: Tensor, gate_inputs: GateInputs | None) -> Tensor:
        """The LLM's logits of prompts with those of the lens, as ``blend`` says; all of shape (prompts,).

        Raises:
            ValueError: the blend reads the lens's logits, and there are none.
        """
        if self.blend == "none":
            return llm_logits
        if gate_inputs is None:
            raise ValueError(
                f"blend is {self.blend}, which reads the lens's logits beside the LLM's, but none were given: score "
                "prompts with their gate inputs, or set the variant's blend to none."
            )
        return (llm_logits + gate_inputs.lens_logits) / 2

    def losses_and_gradients(
        self, batch: PromptBatch, losses_of: Callable[[PromptBatch], Tensor], weights: list[Tensor], count: int
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Losses of prompts, and the gradients of their sum over ``count``.

        Args:
            batch: the prompts.
            losses_of: losses of examples, shape (n,), by a forward pass of the prompts.
            weights: what to differentiate by.
            count: what the sum is divided by, such as the examples of a whole step.

        Returns:
            Losses, shape (n,), and a gradient per weight.
        """
        # Layers that are computed again in the backward pass need gates, too.
        with self.gate_context(batch.gate_inputs):
            losses = losses_of(replace(batch, gate_inputs=None))
            return losses.detach(), torch.autograd.grad(losses.sum() / count, weights, materialize_grads=True)

    def scores(self, prompts: PromptSet, tokens_per_batch: int, description: str) -> np.ndarray:
        """Probability of a like for each prompt, float64 array of shape (prompts,); see `all_llm_logits`."""
        return self.probabilities(self.all_llm_logits(prompts, tokens_per_batch, description), prompts)

    @torch.inference_mode()
    def probabilities(self, llm_logits: np.ndarray, prompts: PromptSet) -> np.ndarray:
        """Probabilities of a like from the LLM's own logits of prompts and what the lens says of them: (prompts,)."""
        return torch.sigmoid(self.blended(torch.from_numpy(llm_logits), prompts.gate_inputs)).numpy()

    @torch.inference_mode()
    def all_llm_logits(
        self, prompts: PromptSet, tokens_per_batch: int, description: str, share: tuple[int, int] = (0, 1)
    ) -> np.ndarray:
        """The LLM's own logit for each prompt, see `llm_logits`: float64 array of shape (prompts,).

        Args:
            prompts: what to answer; the model is in eval mode.
            tokens_per_batch: most tokens in a batch, padding included; halved where the GPU's memory does not suffice.
            description: what the step is called while it runs.
            share: this process's number, from 0, and how many there are: each scores its share of the prompts and
                leaves the others' logits 0, so that the sum over all processes is whole.
        """
        if share == (0, 1) and (self.engine.spreads or self.finished is not None):
            return self._llm_logits_in_shards(prompts, tokens_per_batch, description)
        logits, (process, processes) = np.zeros(len(prompts.labels)), share
        rows = np.arange(process, len(logits), processes)

        def answer(batch: np.ndarray) -> np.ndarray:
            return self.llm_logits(prompts.batch(batch, self.device)).double().cpu().numpy()

        with Progress(description, len(rows), "rows", shown=not process) as progress:
            for batch, answered in TokenBudget(tokens_per_batch).run(rows, prompts.lengths, answer):
                logits[batch] = answered
                progress.update(len(batch))
        return logits

    def _llm_logits_in_shards(self, prompts: PromptSet, tokens_per_batch: int, description: str) -> np.ndarray:
        """The same, shard by shard of the engine; those that are finished already are not run again."""
        logits, shards = np.zeros(len(prompts.labels)), self.engine.shards(len(prompts.labels))
        here = replace(self, finished=None)

        def run(places: Sequence[int]) -> Iterator[np.ndarray]:
            todo = [prompts.take(shards[place]) for place in places]
            if self.engine.spreads:
                return here.on_workers(partial(_all_llm_logits, tokens_per_batch), todo, description)
            return (here.all_llm_logits(shard, tokens_per_batch, description) for shard in todo)

        if self.finished is None:
            answered: Iterable[tuple[int, np.ndarray]] = enumerate(run(range(len(shards))))
        else:
            answered = self.finished.resume([name_of(prompts.take(rows)) for rows in shards], run)
        for place, part in answered:
            logits[shards[place]] = part
        return logits

    def on_workers(
        self, answer: Callable[["AnswerModel", Any], np.ndarray], shards: Sequence[Any], step: str
    ) -> Iterator[np.ndarray]:
        """What workers of the engine, which load this model once, answer to each shard, in order.

        Args:
            answer: what a worker does with the model and a shard; it is pickled on its way.
            shards: parts of the prompts.
            step: what messages call it.
        """
        work = OncePerWorker(partial(_answering, self.packed(), answer))
        return map_shards(work, shards, self.engine, step)

    def packed(self) -> "PackedModel":
        """What another process, of the engine or of this machine, needs to load the same model."""
        files = {}
        if isinstance(self.model, PeftModel):
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
    finished: FinishedShards | None = None,
) -> AnswerModel:
    """The model that answers prompts, put together from what a catalog holds.

    Args:
        base_llm: the base LLM; its model may be a PEFT model around it.
        prompt_config: settings of the prompts.
        engine: what many prompts are scored on.
        adapter: folder of a saved adapter; None for the LLM as it is.
        gate_inputs: of the prompts that it will answer; those of the adapter are checked to be of the same kind.
        blend: how the lens's logit joins the LLM's.
        finished: where the logits of finished shards are kept; None for nowhere.

    Raises:
        MismatchError: the adapter is of another base LLM, or was trained on other gate inputs.
    """
    if adapter is not None:
        reads = (None, None) if gate_inputs is None else (gate_inputs.name, gate_inputs.width)
        base_llm = base_llm.with_model(load_adapter(base_llm.model, adapter, *reads))
    return AnswerModel(base_llm, prompt_format(base_llm.tokenizer, prompt_config), blend, engine, finished)


@dataclass(frozen=True)
class PackedModel:
    """An answering model on its way to another process, which loads the base LLM from where it came from.

    Attributes:
        load_llm: loads the base LLM.
        prompt_format: as in `AnswerModel`.
        blend: as there.
        adapter: the files of the adapter's folder by name; none for the LLM as it came.
    """

    load_llm: Callable[[], LanguageModel]
    prompt_format: PromptFormat
    blend: Blend
    adapter: dict[str, bytes]

    def load(self, *, trainable: bool = False) -> AnswerModel:
        """The model, in eval mode."""
        llm = self.load_llm()
        if not self.adapter:
            return AnswerModel(llm, self.prompt_format, self.blend)
        with scratch_folder() as folder:
            for name, content in self.adapter.items():
                Path(folder, name).write_bytes(content)
            adapted = restore_adapter(llm.model, folder, trainable=trainable)
        return AnswerModel(llm.with_model(adapted), self.prompt_format, self.blend)


def name_of(prompts: PromptSet) -> str:
    """What the LLM's own logits of some prompts of a node depend on: their tokens, and what the gates read."""
    gate_inputs = b"" if prompts.gate_inputs is None else prompts.gate_inputs.values.numpy().tobytes()
    return digest([prompts.token_ids, hashlib.sha256(gate_inputs).hexdigest()])


def _answering(packed: PackedModel, answer: Callable[[AnswerModel, Any], np.ndarray]) -> Callable[[Any], np.ndarray]:
    return partial(answer, packed.load())


def _all_llm_logits(tokens_per_batch: int, model: AnswerModel, prompts: PromptSet) -> np.ndarray:
    return model.all_llm_logits(prompts, tokens_per_batch, "score")
