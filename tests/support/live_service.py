"""A small model, trained for a moment, and a service of it."""

import socket
from contextlib import contextmanager

import lightgbm
import numpy as np
import polars as pl
import yaml
from starlette.testclient import TestClient

from projects import ROOT
from reclora_kedro.candidates.item_model import Training
from reclora_kedro.history.retrieval import WindowConfig
from reclora_kedro.history.splits import SplitConfig
from reclora_kedro.ingestion.config import IngestionConfig
from reclora_kedro.ingestion.forgotten import NOBODY
from reclora_kedro.lens.config import LensConfig
from reclora_kedro.lens.states import LensReader
from reclora_kedro.lens.training import fit_lens
from reclora_kedro.recommendation.chosen import Choice
from reclora_kedro.recommendation.config import RecommendationConfig
from reclora_kedro.recommendation.delivery import best_of_shortlists, lists_for_users
from reclora_kedro.recommendation.features import read_lists
from reclora_kedro.recommendation.recommender import FittedRecommender
from reclora_kedro.recommendation.second_stage import SETTINGS, SecondStage, _data, fused_scores, learn_weights
from reclora_kedro.serving.app import create_app, create_server
from reclora_kedro.serving.config import ServiceConfig
from reclora_kedro.serving.guard import Tokens
from reclora_kedro.serving.metrics import Metrics
from reclora_kedro.serving.models import ServedModel
from reclora_kedro.serving.service import Service
from reference_log import reference_log

USERS, ITEMS, EVENTS_PER_USER = 12, 30, 14
BEGIN = 1_000_000_000
FILE = "journal.sqlite"
LINEAR = {"regularization": 1, "recency": 0.8, "transition_weight": 1, "text_weight": 0.5}
SOURCES = {"popularity": {}, "item_knn": {}, "linear": LINEAR}
"""Settings of sources, as a choice has them."""


def block(step, name=None, **changes):
    text = (ROOT / f"conf/base/parameters_{step}.yml").read_text("utf-8").replace("${globals:", "'${globals:")
    values = yaml.safe_load(text.replace("seed}", "seed}'").replace("/01_raw/service/journal.sqlite", "'"))[
        name or step
    ]
    return values | {key: 0 for key in values if key == "seed"} | changes


def small_tables():
    random = np.random.default_rng(0)
    interactions = pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(USERS), EVENTS_PER_USER),
            "item_id": np.concatenate([random.permutation(ITEMS)[:EVENTS_PER_USER] for _ in range(USERS)]),
            "rating": random.integers(1, 6, USERS * EVENTS_PER_USER).astype(float),
            "timestamp": BEGIN + random.permutation(USERS * EVENTS_PER_USER),
        }
    ).with_columns(label=(pl.col("rating") >= 4).cast(pl.Int8))
    items = pl.DataFrame(
        {
            "item_id": range(ITEMS),
            "title": [f"Film {i} (1990)" for i in range(ITEMS)],
            "genres": [("Drama", "Comedy, Drama", "Horror")[i % 3] for i in range(ITEMS)],
        }
    )
    users = pl.DataFrame({"user_id": range(USERS), "gender": ["F", "M"] * (USERS // 2)})
    return interactions, items, users


def small_log(interactions=None, ties="strict"):
    tables = small_tables()
    split = SplitConfig(kind="global_time", train=0.6, validation=0.2)
    interactions = tables[0] if interactions is None else interactions
    log = reference_log(interactions, *tables[1:], min_history=1, ties=ties, split=split)
    return log.with_embeddings(np.random.default_rng(1).normal(size=(ITEMS, 3)).astype(np.float32))


def ingestion(**changes):
    return IngestionConfig.model_validate(block("ingestion", **changes))


def recommender_of(log, lens, kind="item_knn", order="lens", *, choice=None, retriever=None, **settings):
    """A recommender of all events of a log by a method, or by a whole choice."""
    choice = {"kind": kind, "order": order, "sources": SOURCES} | (choice or {})
    config = RecommendationConfig.model_validate(block("recommendation", sources=[*choice["sources"]], **settings))
    training = Training.from_log(log, retriever=retriever)
    return FittedRecommender.from_choice(training, Choice.model_validate(choice), config, LensReader(lens, log))


def second_stage(log, lens):
    """A second stage that has learned from all events as if they were news."""
    recommender, likes = recommender_of(log, lens, "fusion", "candidates"), log.samples.filter(label=1)
    moments, target = recommender.moments(likes, repeat=True), likes["item_index"].to_numpy()
    lists = read_lists(recommender.reader, moments, target)
    weights = learn_weights(lists)
    data = _data(lists, fused_scores(lists.features, weights))
    trees = lightgbm.train(SETTINGS | {"min_data_in_leaf": 5}, data, 5).model_to_string()
    return SecondStage(weights=weights, trees=trees)


def embed_by_words(texts, texts_before, vectors):
    """Vectors in which changed texts have those of the first item with the same second word."""
    words = [text.split()[1] for text in texts]
    places = [words.index(words[i]) if texts[i : i + 1] != texts_before[i : i + 1] else i for i in range(len(texts))]
    return vectors[places]


def small_model(log=None, of_lens=None, **changes):
    log = log or small_log()
    retrieved = WindowConfig(kind="retrieved", k=5)
    sizes = {"max_epochs": 1, "embedding_dim": 4, "hidden_dim": 8, "batch_size": 64, "field_min_count": 1}
    settings = block("lens", **sizes, recent_length=6, long_history=retrieved, device="cpu")
    lens, _ = fit_lens(log, LensConfig.model_validate(settings | {"batch_parts": 1} | (of_lens or {})))
    return ServedModel(
        **{
            "versions": {"log": "2026-01-01T00.00.00.000Z", "lens": "2026-01-01T00.00.00.000Z"},
            "about": {},
            "lens": lens,
            "retriever": None,
            "recommender": recommender_of(log, lens),
            "table": None,
            "llm": None,
            "ingestion": ingestion(),
            "embed": embed_by_words,
        }
        | changes
    )


def served(recommender, folder, **changes):
    """A service of a recommender from Python, without a lens."""
    current_model = ServedModel({}, {}, None, None, recommender, None, None, recommender.ingestion)
    return Service(service_config(folder, **changes), lambda: current_model, Metrics())


def service_config(journal, **changes):
    """Settings of a service with its journal in a folder, or at the address of a database."""
    address = journal if isinstance(journal, str) else str(journal / FILE)
    return ServiceConfig.model_validate(
        block("service", **{"journal": address, "allowed_hosts": ["testserver"]} | changes)
    )


def serve(journal, current_model, tell, **changes):
    """Answer over HTTP until the process ends, on a port that `tell`, the end of a pipe, is told."""
    config = service_config(journal, allowed_hosts=["127.0.0.1"], **changes)
    service = Service(config, lambda: current_model, Metrics())
    with socket.create_server(("127.0.0.1", 0)) as listening:
        tell.send(listening.getsockname()[1])
        create_server(create_app(service), config).run([listening])


def nothing():
    return None


@contextmanager
def serving(folder, current_model, token=None, forgotten=lambda: NOBODY, newest=nothing, roll_back=nothing, **changes):
    load = current_model if callable(current_model) else lambda: current_model
    service = Service(service_config(folder, **changes), load, Metrics(), forgotten)
    tokens = Tokens(token) if isinstance(token, str) else token
    with TestClient(create_app(service, tokens, newest, roll_back)) as client:
        client.service = service
        yield client


def items_of(answer):
    return items_in(answer.json())


def items_in(answer):
    return [entry["item"] for entry in answer["items"]]


def offline(current_model, user, n=10):
    """What the recommendation step recommends to a user."""
    config = current_model.recommendation
    lists, _ = lists_for_users(current_model.recommender, [user], config.shortlist)
    return best_of_shortlists(lists, None, n)
