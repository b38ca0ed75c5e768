"""A small log, an untrained lens that tells its users and items apart, and every pair of the two."""

import numpy as np
import polars as pl
import pytest
import torch

from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.retrieval import WindowConfig
from reclora_kedro.lens.base import Lens, build_lens
from reclora_kedro.lens.config import LensConfig, LensSizes
from reference_log import reference_log

USERS, ITEMS, EVENTS_PER_USER = 5, 12, 7


@pytest.fixture
def log() -> InteractionLog:
    random = np.random.default_rng(0)
    interactions = pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(USERS), EVENTS_PER_USER),
            "item_id": np.concatenate([random.permutation(ITEMS)[:EVENTS_PER_USER] for _ in range(USERS)]),
            "rating": random.integers(1, 6, USERS * EVENTS_PER_USER).astype(float),
            "timestamp": np.arange(USERS * EVENTS_PER_USER) + 1,
        }
    ).with_columns(label=(pl.col("rating") >= 4).cast(pl.Int8))
    items = pl.DataFrame({"item_id": range(ITEMS), "title": [f"Drama Film {i} (1990)" for i in range(ITEMS)]})
    users = pl.DataFrame({"user_id": range(USERS), "gender": ["F", "M", "F", "M", "F"]})
    return reference_log(interactions, items, users, min_history=1).with_embeddings(random.normal(size=(ITEMS, 3)))


@pytest.fixture
def lens() -> Lens:
    config = LensConfig(
        model="din",
        training_rows="all",
        recent_length=6,
        long_history=WindowConfig(kind="recent", k=6),
        rating_statistics=True,
        statistics_delay=0,
        item_text=True,
        item_text_dropout=0.2,
        embedding_dim=4,
        hidden_dim=8,
        dropout=0.0,
        user_id_dropout=0.0,
        item_id_dropout=0.0,
        field_min_count=1,
        learning_rate=1e-3,
        weight_decay=0.0,
        batch_size=8,
        batch_parts=1,
        max_epochs=1,
        patience=1,
        seed=0,
        device="cpu",
    )
    sizes = LensSizes(
        users=USERS,
        user_fields={},
        user_width=0,
        items=ITEMS,
        item_fields={},
        item_width=0,
        item_text_widths=(3,),
        rating_levels=5,
        rating_range=(1, 5),
        trained_until=9,
    )
    torch.manual_seed(0)
    lens = build_lens(config, sizes)
    for entity in (lens.user, lens.item):
        entity.id_codes.copy_(torch.arange(1, len(entity.id_codes) + 1))
        torch.nn.init.normal_(entity.ids.weight)
    torch.nn.init.normal_(lens.item.texts)
    return lens.freeze()


@pytest.fixture
def shortlist(log: InteractionLog) -> pl.DataFrame:
    """Every pair of user and item, unranked, in the form that `shortlist_candidates` leaves."""
    user, item = np.divmod(np.arange(USERS * ITEMS), ITEMS)
    return pl.DataFrame({"user_id": user, "item_id": item, "title": log.items["title"].gather(item)}).with_columns(
        user_index=pl.Series(user, dtype=pl.Int32),
        item_index=pl.Series(item, dtype=pl.Int32),
        score=pl.lit(0.5),
        fallback=pl.lit(False),
        because=pl.lit([], dtype=pl.List(pl.String)),
    )
