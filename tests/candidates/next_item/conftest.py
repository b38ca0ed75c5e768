"""What tests of retrievers share: a log, settings, and a trained retriever of each model."""

import pytest

from cycle_log import cycle_log
from parity_log import one_thread
from reclora_kedro.candidates.next_item import RETRIEVER_MODELS
from reclora_kedro.candidates.next_item.config import RetrieverConfig
from reclora_kedro.candidates.next_item.training import fit_retriever


@pytest.fixture(scope="session", name="log")
def _log():
    return cycle_log()


@pytest.fixture(scope="session")
def config():
    return RetrieverConfig(
        model="sasrec",
        item_ids=True,
        item_text=True,
        item_id_dropout=0.2,
        length=5,
        dim=16,
        layers=1,
        heads=2,
        dropout=0.1,
        learning_rate=0.02,
        weight_decay=0.0,
        batch_size=16,
        batch_parts=2,
        max_epochs=12,
        patience=12,
        seed=0,
        device="cpu",
    ).model_copy(update={"full_softmax_items": 100, "sampled_items": 16, "average_decay": 0.5})


@pytest.fixture(scope="session", params=RETRIEVER_MODELS.modules())
def fitted(request, log, config):
    """A trained retriever of each model, and its training log."""
    with one_thread():
        return fit_retriever(log, config.model_copy(update={"model": request.param}))
