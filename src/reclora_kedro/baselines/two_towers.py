"""Two towers over text vectors: a baseline that learns from the same few rows as the LLM, without being one.

The form of CTR-BERT (Muhamed et al., "CTR-BERT: Cost-effective knowledge distillation for billion-parameter teacher
models", 2021); its text encoder is that of the item embeddings, frozen.
"""

import copy
from collections.abc import Iterator

import numpy as np
import polars as pl
import torch
from pydantic import Field
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional

from kedro_provenance.parameters import Block
from reclora_kedro.baselines.base import score_table
from reclora_kedro.evaluation.styles import Style
from reclora_kedro.histories.log import InteractionLog
from reclora_kedro.histories.retrieval import recent_events
from reclora_kedro.lens.features import item_texts
from reclora_kedro.lens.layers import mean_pool
from reclora_kedro.lens.training import SCORING_BATCH_SIZE
from reclora_kedro.parameters import Count, LearningRate, NonNegative, Seed, Share

NOTE = (
    "two towers that read the texts of the target and of what the user liked and disliked, as vectors of a frozen "
    "encoder, trained on the same small sample of the rows as the adapters"
)
STYLE = Style("#7B61A8", "pentagon", "longdashdot")
Inputs = tuple[Tensor, ...]  # of the user tower and of the item tower


class TwoTowersConfig(Block):
    """Architecture and training of the two towers."""

    recent_length: Count
    hidden_dim: Count
    dropout: Share
    learning_rates: tuple[LearningRate, ...] = Field(min_length=1)
    weight_decay: NonNegative
    batch_size: Count
    max_epochs: Count
    seed: Seed


class TwoTowers(nn.Module):
    """An MLP over a user's past, one over the target's text vector of this width; the logit is their scaled product."""

    def __init__(self, width: int, config: TwoTowersConfig) -> None:
        super().__init__()
        hidden_dim, dropout = config.hidden_dim, config.dropout
        self.user, self.item = (
            nn.Sequential(
                nn.Dropout(dropout),
                nn.Linear(inputs, hidden_dim),
                nn.ReLU(),
                nn.Dropout(dropout),
                nn.Linear(hidden_dim, hidden_dim),
            )
            for inputs in (2 * width + 1, width)
        )
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        """Logits of a like, shape (batch,), of what `tower_inputs` returns."""
        user, item = self.user(user), self.item(item)
        return (user * item).sum(dim=-1) / item.shape[-1] ** 0.5 + self.bias


def scores(
    log: InteractionLog, learning_questions: pl.DataFrame, test_questions: pl.DataFrame, config: TwoTowersConfig
) -> pl.DataFrame:
    """Probabilities of a like of the test rows, learned from the few-shot rows.

    The validation rows choose among learning rates and epochs by AUC.
    """
    few_shot, validation = (learning_questions.filter(use=use) for use in ("few_shot", "validation"))
    texts = item_texts(log)

    def inputs_of(questions: pl.DataFrame) -> Iterator[Inputs]:
        for part in questions.iter_slices(SCORING_BATCH_SIZE):
            yield tower_inputs(log, texts, part, config)

    train, unseen = (tuple(map(torch.cat, zip(*inputs_of(part), strict=True))) for part in (few_shot, validation))
    liked = torch.tensor(few_shot["label"].to_numpy(), dtype=torch.float32)
    best_auc, best_weights = -1.0, {}
    with torch.random.fork_rng():
        for learning_rate in config.learning_rates:
            torch.manual_seed(config.seed)
            towers = TwoTowers(texts.shape[1], config)
            optimizer = torch.optim.AdamW(towers.parameters(), learning_rate, weight_decay=config.weight_decay)
            for _ in range(config.max_epochs):
                _train_epoch(towers, optimizer, train, liked, config.batch_size)
                auc = roc_auc_score(validation["label"], _logits(towers, unseen))
                if auc > best_auc:
                    best_auc, best_weights = auc, copy.deepcopy(towers.state_dict())
    towers.load_state_dict(best_weights)
    logits = torch.cat([_logits(towers, inputs) for inputs in inputs_of(test_questions)])
    return score_table(test_questions, torch.sigmoid(logits.double()).numpy())


def tower_inputs(log: InteractionLog, texts: Tensor, samples: pl.DataFrame, config: TwoTowersConfig) -> Inputs:
    """What the towers read of n samples, with user_index, item_index and history_end, and of the items' texts.

    Returns:
        Of the user the mean texts of liked and of disliked events, zero without any, and the logarithm of their number,
        float32, shape (n, 2 * width + 1); of the item its text, shape (n, width).
    """
    sequences, scale = log.sequences, texts.shape[1] ** 0.5  # the components then vary by about one
    events = recent_events(samples, sequences, config.recent_length)
    past = texts[sequences.item_index[events]] * scale
    is_event, liked = events >= 0, sequences.label[events] == 1
    means = [mean_pool(past, torch.from_numpy(is_event & kind)) for kind in (liked, ~liked)]
    count = samples["history_end"].to_numpy() - sequences.offsets[samples["user_index"].to_numpy()]
    log_count = torch.from_numpy(np.log1p(count)).float().unsqueeze(1)
    return torch.cat([*means, log_count], dim=1), texts[samples["item_index"].to_torch()] * scale


def _train_epoch(
    towers: TwoTowers, optimizer: torch.optim.Optimizer, inputs: Inputs, liked: Tensor, batch_size: int
) -> None:
    towers.train()
    for batch in torch.randperm(len(liked)).split(batch_size):
        logits = towers(*(part[batch] for part in inputs))
        loss = functional.binary_cross_entropy_with_logits(logits, liked[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@torch.inference_mode()
def _logits(towers: TwoTowers, inputs: Inputs) -> Tensor:
    return towers.eval()(*inputs)
