"""Nodes of the lens step."""

from typing import Any

import numpy as np
import polars as pl
from torch import Tensor

from reclora_kedro.distributed.engine import EngineConfig
from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.histories.log import InteractionLog
from reclora_kedro.lens import crossfit, metrics, states
from reclora_kedro.lens.base import Lens
from reclora_kedro.lens.config import LensConfig
from reclora_kedro.lens.crossfit import FewShotConfig
from reclora_kedro.lens.training import fit_lens

Arrays = dict[str, np.ndarray]


def train_lens(
    log: InteractionLog,
    config: LensConfig,
    engine: EngineConfig,
    prompt_rows: pl.DataFrame | None = None,
) -> tuple[Lens, pl.DataFrame]:
    """The trained lens and its training log; with prompt rows, it learns from the few-shot ones among them alone."""
    if prompt_rows is not None:
        log = log.with_training_rows(prompt_rows.filter(use="few_shot")["row"].to_numpy())
    return fit_lens(log, config, engine)


def measure_lens(lens: Lens, log: InteractionLog, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """What the lens reaches on the whole test split."""
    return [metrics.measure_lens(lens, log) | {"confidence": bootstrap.confidence}]  # for intervals over seeds


def compute_lens_states(
    lens: Lens, log: InteractionLog, prompt_rows: pl.DataFrame, engine: EngineConfig
) -> tuple[dict[str, Tensor], pl.DataFrame]:
    """States and scores of the prompts' rows by the lens."""
    found = states.lens_states(lens, log, prompt_rows["row"].to_numpy(), engine)
    return found, pl.DataFrame({"row": prompt_rows["row"], "score": states.lens_scores(found)})


def compute_few_shot_states(
    lens: Lens,
    log: InteractionLog,
    prompt_rows: pl.DataFrame,
    lens_states: dict[str, Tensor],
    lens_training_log: pl.DataFrame,
    few_shot: FewShotConfig,
) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """States of the few-shot rows as gates learn from them, and how sure the lens is of these rows."""
    chosen = (prompt_rows["use"] == "few_shot").to_torch()
    own = {name: state[chosen] for name, state in lens_states.items()}
    return crossfit.few_shot_states(lens, log, own, lens_training_log, few_shot)
