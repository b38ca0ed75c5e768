"""A small synthetic log whose likes are easily learned: a user likes the items of their own parity."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
import polars as pl
import pytest
import torch

from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.retrieval import WindowConfig
from reclora_kedro.history.splits import SplitConfig
from reclora_kedro.lens import LENS_MODELS
from reclora_kedro.lens.base import Lens
from reclora_kedro.lens.config import LensConfig
from reclora_kedro.lens.training import fit_lens
from reference_log import reference_log

USERS, ITEMS, EVENTS_PER_USER = 30, 40, 20


@contextmanager
def one_thread() -> Iterator[None]:
    """Threads cost more than they give at this size, many times more on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="session")
def log() -> InteractionLog:
    random = np.random.default_rng(0)
    user = np.repeat(np.arange(USERS), EVENTS_PER_USER)
    item = np.concatenate([random.permutation(ITEMS)[:EVENTS_PER_USER] for _ in range(USERS)])
    label = (user % 2 == item % 2).astype(np.int8)
    interactions = pl.DataFrame(
        {
            "user_id": user,
            "item_id": item,
            "rating": label * 3.0 + 1 + random.integers(2, size=len(user)),
            "timestamp": random.permutation(len(user)) + 1,
            "label": label,
        }
    )
    items = pl.DataFrame(
        {
            "item_id": range(ITEMS),
            "title": [f"Item {i}" for i in range(ITEMS)],
            "genres": [("Even, Round" if i % 2 == 0 else "Odd") for i in range(ITEMS)],
        }
    )
    users = pl.DataFrame(
        {
            "user_id": range(USERS),
            "gender": ["F" if u % 3 else None for u in range(USERS)],
            "age": [str(20 + u % 2) for u in range(USERS)],
        }
    )
    split = SplitConfig(kind="global_time", train=0.7, validation=0.15)
    log = reference_log(interactions, items, users, min_history=3, split=split)
    embeddings = random.normal(size=(ITEMS, 4))
    embeddings[:, 0] += 3 * (-1) ** np.arange(ITEMS)  # texts, too, tell the parity of their items
    return log.with_embeddings(embeddings)


@pytest.fixture(scope="session")
def config() -> LensConfig:
    return LensConfig(
        model="din",
        training_rows="all",
        recent_length=5,
        long_history=WindowConfig(kind="recent", k=6),
        rating_statistics=True,
        statistics_delay=0,
        item_text=True,
        item_text_dropout=0.2,
        co_occurrence_folds=3,
        embedding_dim=8,
        hidden_dim=16,
        dropout=0.2,
        user_id_dropout=0.3,
        item_id_dropout=0.1,
        field_min_count=2,
        learning_rate=0.01,
        weight_decay=0.0,
        batch_size=32,
        batch_parts=1,
        max_epochs=8,
        patience=5,
        seed=0,
        device="cpu",
    )


@pytest.fixture(scope="session")
def fit(log: InteractionLog, config: LensConfig) -> Callable[[str], tuple[Lens, pl.DataFrame]]:
    """Trains a lens of a model when it is asked for first."""

    @cache
    def of_model(model: str) -> tuple[Lens, pl.DataFrame]:
        with one_thread():
            return fit_lens(log, config.model_copy(update={"model": model, "max_epochs": 3}))

    return of_model


@pytest.fixture(params=LENS_MODELS.modules())
def fitted(
    request: pytest.FixtureRequest, fit: Callable[[str], tuple[Lens, pl.DataFrame]]
) -> tuple[Lens, pl.DataFrame]:
    """A trained lens of each model, and its training log."""
    return fit(request.param)
