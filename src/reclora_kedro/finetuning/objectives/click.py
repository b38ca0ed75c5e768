"""Click objective: the adapter learns the answer to each few-shot row."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from reclora_kedro.distributed.checkpoints import CheckpointStore
from reclora_kedro.finetuning.examples import Examples, Objective, Train
from reclora_kedro.llm.answer_model import AnswerModel
from reclora_kedro.llm.prompt_set import PromptSet


@dataclass(frozen=True)
class Clicks(Examples):
    """One prompt per example; the loss is the cross entropy between label and answer."""

    def losses(self, logits: Tensor, examples: np.ndarray) -> Tensor:
        labels = torch.from_numpy(self.prompts.labels[examples]).to(logits)
        return F.binary_cross_entropy_with_logits(logits, labels, reduction="none")


class Click(Objective):
    """Objective with each few-shot row as an example."""

    def fine_tune(
        self,
        train: Train,
        model: AnswerModel,
        few_shot: PromptSet,
        questions: pl.DataFrame,
        tokens_per_batch: int,
        checkpoints: CheckpointStore | None,
        *inputs: Any,
    ) -> pl.DataFrame:
        return train(Clicks(few_shot, questions["user_index"].to_numpy()), checkpoints)
