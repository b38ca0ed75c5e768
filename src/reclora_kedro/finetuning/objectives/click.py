"""Click objective: the adapter learns the answer to each few-shot row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from reclora_kedro.finetuning.examples import AdapterTask, Examples, Objective

if TYPE_CHECKING:
    from torch import Tensor

    from reclora_kedro.llm.answer_model import AnswerModel
    from reclora_kedro.llm.prompt_set import PromptBatch


@dataclass(frozen=True)
class Clicks(Examples):
    """One prompt per example; the loss is the cross entropy between label and answer."""

    def losses(self, model: AnswerModel, batch: PromptBatch, examples: np.ndarray) -> Tensor:
        import torch
        from torch.nn import functional as F

        logits = model.llm_logits(batch)
        labels = torch.from_numpy(self.prompts.labels[examples]).to(logits)
        return F.binary_cross_entropy_with_logits(logits, labels, reduction="none")


class Click(Objective):
    """Objective with each few-shot row as an example."""

    def fine_tune(self, training: AdapterTask) -> pl.DataFrame:
        users = training.questions["user_index"].to_numpy()
        return training.train(Clicks(training.few_shot, users), training.checkpoints)
