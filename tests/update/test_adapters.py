"""An adapter that goes on with its log."""

import numpy as np
import polars as pl
import pytest
import torch

from few_rows import adapter_weights, gates_decide, training_config, with_new_adapter
from reclora_kedro.finetuning.config import AdapterContinuationConfig
from reclora_kedro.optimization import copy_of
from reclora_kedro.update.adapters import update_adapter, update_questions
from reclora_kedro.update.promotion import Decision

USES = {"few_shot": 64, "replay": 32, "validation": 64, "test": 60}
CONFIG = AdapterContinuationConfig(few_shot=64, learning_rate=2e-2, safeguard=("none",))


def learned_rows():
    """Prompts of all uses, and their gate inputs."""
    prompts = gates_decide(sum(USES.values()))
    table = {
        "row": prompts.rows,
        "use": np.repeat([*USES], [*USES.values()]),
        "label": prompts.labels,
        "token_ids": prompts.token_ids,
        "user_index": prompts.rows % 20,
    }
    return pl.DataFrame(table), prompts.gate_inputs


@pytest.mark.parametrize("chosen", ["champion", "challenger"])
def test_the_weights_that_stay_are_those_that_were_chosen(tiny_model, chosen):
    class Promotion:
        def decide(self, rows, *_):
            return Decision.undecided(rows, "for a test").model_copy(update={"chosen": chosen})

    training = training_config(epochs=4, rows_per_validation=64)
    model = with_new_adapter(tiny_model, gates_decide(32, seed=2))
    model.model.requires_grad_(False)
    start = copy_of(adapter_weights(model.model))
    prompts, gate_inputs = learned_rows()
    log, decision = update_adapter(model, prompts, gate_inputs, CONFIG, training, Promotion())
    assert decision.rows == USES["test"]
    assert log["rows"].max() == 4 * 64  # the new ones, in each epoch
    same = [torch.equal(weights, start[name]) for name, weights in adapter_weights(model.model).items()]
    assert all(same) == (chosen == "champion")
    few = prompts.filter(pl.col("use") != "validation")
    log, decision = update_adapter(model, few, gate_inputs, CONFIG, training, Promotion())
    assert (log.height, decision.chosen) == (0, "champion")


def test_the_newest_questions_are_of_the_test_split():
    columns = ("user_index", "item_index", "history_end", "timestamp")
    samples = pl.DataFrame({name: range(90) for name in ("row", *columns)}).with_columns(
        label=pl.col("row") % 2, split=pl.Series(["train"] * 50 + ["validation"] * 20 + ["test"] * 20)
    )
    known = samples.head(31).select("user_index", "timestamp")
    drawn = update_questions(samples, known, CONFIG, 12, seed=0)
    assert drawn.filter(use="test").height == 12
    assert drawn.filter(use="test")["row"].min() >= 70
    assert update_questions(samples, known, CONFIG, None, seed=0).filter(use="test").height == 20
