"""What a user's best items cost in a large catalogue.

    python benchmarks/large_catalogue.py --items 1000000
    python benchmarks/large_catalogue.py --methods 2000 50000

The first command compares a retriever's approximate index with scores of every item. Vectors are made up: items around
one centre per 200 items, of unequal lengths; states of users near sums of two items. Those of a trained retriever have
fewer directions of large variance, along popularity above all, so that their lists are less equal in size.

The second one compares the methods of `recommendation.method` in catalogues of several sizes, in a made-up log: each
user takes items around two centres, and popular ones. Its retriever is not trained. Times are CPU time of one thread.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from time import process_time
from typing import Any

import numpy as np
import polars as pl
import psutil
import torch
from results import timed
from synthetic_log import conf, history_settings
from threadpoolctl import threadpool_limits

from reclora_kedro.candidates.item_model import Training
from reclora_kedro.candidates.next_item.base import Retriever, fresh_retriever
from reclora_kedro.candidates.next_item.config import RetrieverConfig
from reclora_kedro.candidates.next_item.reader import SEARCHED_SHARE, ItemIndex
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.log_builder import build_log
from reclora_kedro.history.taken_items import draw_positives
from reclora_kedro.lens.config import LensConfig
from reclora_kedro.lens.features import fresh_lens
from reclora_kedro.lens.states import LensReader
from reclora_kedro.recommendation.chosen import Choice
from reclora_kedro.recommendation.config import RecommendationConfig
from reclora_kedro.recommendation.recommender import MOMENTS_AT_ONCE, FittedRecommender
from reclora_kedro.recommendation.second_stage import SecondStage
from reclora_kedro.terminal import show, text_table

ITEMS_PER_CENTRE = 200
SCORES_AT_ONCE = 2**24
EVENTS = 30  # of each user of the made-up log
SINGLE_USERS = 10  # who are asked for one by one
TEACHING_LIKES = 100  # of the first catalogue, which train the second stage
SOURCES: dict[str, dict[str, Any]] = {
    "popularity": {"days": 90},
    "item_knn": {"text_weight": 1},
    "linear": {"regularization": 100, "recency": 0.9, "transition_weight": 0.5, "text_weight": 0.25},
    "retriever": {},
}
METHODS = (*SOURCES, "fusion", "ranker")
COLUMNS = {
    "recall": ("{:.4f}".format, "recall"),
    "ms per user": ("{:.3f}".format, "milliseconds"),
    "times as fast": ("{:.1f}".format, "ratio"),
}

METHOD_COLUMNS = {
    "first": ("{:.2f}".format, "first"),
    "again": ("{:.2f}".format, "again"),
    "one by\none": ("{:.2f}".format, "single"),
}


def made_up(items: int, users: int, dim: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors of items and states of users, float32, (items, dim) and (users, dim)."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((max(1, items // ITEMS_PER_CENTRE), dim), dtype=np.float32)
    vectors = centres[random.integers(len(centres), size=items)]
    vectors += np.float32(0.7) * random.standard_normal((items, dim), dtype=np.float32)
    vectors *= random.lognormal(0, 0.3, (items, 1)).astype(np.float32)
    first, second = vectors[random.integers(items, size=(2, users))]
    return vectors, first + second / 2 + random.standard_normal((users, dim), dtype=np.float32) / 2


def best_by_scores(vectors: np.ndarray, states: np.ndarray, limit: int) -> np.ndarray:
    table, found = torch.from_numpy(vectors).T, list[np.ndarray]()
    for block in torch.from_numpy(states).split(max(1, SCORES_AT_ONCE // len(vectors))):
        found.append((block @ table).topk(limit).indices.numpy())
    return np.concatenate(found)


def measure(vectors: np.ndarray, states: np.ndarray, limit: int, index: ItemIndex) -> Iterator[dict[str, Any]]:
    """Yield recall and time of exact scores, and of shares of the index's lists."""
    best, exact = timed(best_by_scores, vectors, states, limit, clock=process_time)
    yield {"search": "every item", "recall": 1.0, "milliseconds": 1e3 * exact / len(states), "ratio": 1.0}
    lists, chosen = index.lists.nlist, index.lists.nprobe
    for searched in sorted({max(1, chosen // 2), chosen, min(lists, 2 * chosen)}):
        index.lists.nprobe = searched
        found, seconds = timed(index.search, states, limit, clock=process_time)
        yield {
            "search": f"{searched} of {lists} lists" + (" (chosen)" if searched == chosen else ""),
            "recall": np.mean([np.isin(*rows).mean() for rows in zip(best, found, strict=True)]),
            "milliseconds": 1e3 * seconds / len(states),
            "ratio": exact / max(seconds, 1e-9),
        }


def made_up_log(items: int, users: int, dim: int) -> InteractionLog:
    """Return a log of `EVENTS` events per user, of items with three words and a genre, and with vectors."""
    random = np.random.default_rng(0)
    centres = max(2, items // ITEMS_PER_CENTRE)
    user, own = np.repeat(np.arange(users), EVENTS), random.integers(centres, size=(users, 2))
    centre = own[user, random.integers(2, size=len(user))]
    near = centre + centres * (items // centres * random.random(len(user)) ** 3).astype(int)
    popular = (items * random.random(len(user)) ** 6).astype(int)
    rating = random.integers(1, 6, size=len(user)).astype(float)
    interactions = pl.DataFrame(
        {
            "user_id": user,
            "item_id": np.where(random.random(len(user)) < 0.6, near, popular),
            "rating": rating,
            "timestamp": random.integers(10**9, 10**9 + 400 * 86_400, size=len(user)),
            "label": (rating > 3).astype(np.int8),
        }
    )
    word = (20_000 * random.random((3, items)) ** 3).astype(int)
    titles = [
        f"kind{item % centres} {' '.join(f'word{each}' for each in of_item)}" for item, of_item in enumerate(word.T)
    ]
    genres = [f"genre{item % centres % 20}" for item in range(items)]
    table = pl.DataFrame({"item_id": range(items), "title": titles, "genres": genres})
    interactions = interactions.unique(["user_id", "item_id"], maintain_order=True).sort("timestamp")
    log = build_log(interactions, table, pl.DataFrame({"user_id": range(users)}), history_settings())
    assert isinstance(log, InteractionLog)
    vectors = made_up(centres * ITEMS_PER_CENTRE, 0, dim, seed=0)[0]
    return log.with_embeddings(np.resize(vectors, (items, dim)))


def untrained_retriever(log: InteractionLog, dim: int) -> Retriever:
    """Return a retriever whose vectors of items are the log's."""
    settings = conf("candidates", "retriever") | {"device": "cpu", "item_text": False, "dim": dim}
    in_training = torch.from_numpy(log.sequences.item_index[log.training_events()].astype(np.int64))
    config = RetrieverConfig.model_validate(settings)
    retriever = fresh_retriever(torch.zeros((log.items.height, 0)), in_training, config)
    retriever.ids.weight.data.copy_(torch.from_numpy(log.item_embeddings))
    return retriever.freeze()


def measure_methods(items: int, users: int, dim: int, stage: SecondStage | None) -> Any:
    """Return the times of each method in a catalogue, and the second stage, which is trained if missing."""
    log = made_up_log(items, 10 * users, dim)
    config = RecommendationConfig.model_validate(conf("recommendation", "recommendation"))
    lens = fresh_lens(log, LensConfig.model_validate(conf("lens", "lens") | {"device": "cpu"}))[0].eval()
    reader, retriever = LensReader(lens, log), untrained_retriever(log, dim)
    choice = Choice(kind="ranker", order="candidates", sources=SOURCES)
    if stage is None:
        of_split = FittedRecommender.from_choice(Training.from_split(log, retriever=retriever), choice, config, reader)
        likes = draw_positives(log, "validation", TEACHING_LIKES, 0)
        stage = SecondStage.learned(of_split.reader, of_split.moments(likes), likes["item_index"].to_numpy(), 0)
    choice = choice.model_copy(update={"stage": stage})
    of_all = FittedRecommender.from_choice(Training.from_log(log, retriever=retriever), choice, config, reader)
    asked = log.now(log.find_users(log.users["user_id"][:users]))
    rows = []
    for name in METHODS:
        recommender = replace(of_all, choice=choice.model_copy(update={"kind": name}))
        every = partial(timed, find_all, recommender, asked, MOMENTS_AT_ONCE, clock=process_time)
        _, first = every()
        _, again = every()
        _, single = timed(find_all, recommender, asked[:SINGLE_USERS], 1, clock=process_time)
        rows.append(
            {
                "items": f"{items:,}",
                "method": name,
                "first": 1e3 * first / users,
                "again": 1e3 * again / users,
                "single": 1e3 * single / min(users, SINGLE_USERS),
            }
        )
    return rows, stage


def find_all(recommender: FittedRecommender, asked: pl.DataFrame, at_once: int) -> None:
    for block in asked.iter_slices(at_once):
        recommender.best_lists(recommender.moments(block), recommender.config.shortlist)


def compare_methods(catalogues: Sequence[int], users: int, dim: int) -> None:
    torch.set_num_threads(1)
    rows, stage = list[dict[str, Any]](), None
    with threadpool_limits(1):
        for items in catalogues:
            of_catalogue, stage = measure_methods(items, users, dim, stage)
            rows += of_catalogue
    title = "CPU milliseconds per user, for the best 20 items; the first time, what is near to items is found"
    show(text_table(title, rows, {"items": (str, "items"), "method": (str, "method")}, METHOD_COLUMNS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=500)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--most", type=int, default=100)
    parser.add_argument("--methods", type=int, nargs="+", help="numbers of items of the catalogues")
    arguments = parser.parse_args()
    if arguments.methods:
        return compare_methods(arguments.methods, arguments.users, arguments.dim)
    vectors, states = made_up(arguments.items, arguments.users, arguments.dim, seed=0)
    torch.set_num_threads(1)
    with threadpool_limits(1):
        resident = psutil.Process().memory_info().rss
        index, built = timed(ItemIndex, vectors, np.arange(len(vectors)), 0, clock=process_time)
        gib = (psutil.Process().memory_info().rss - resident) / 2**30
        rows = list(measure(vectors, states, arguments.most, index))
    title = (
        f"The best {arguments.most} of {arguments.items:,} items of {arguments.dim} dimensions; the index takes "
        f"{built:.1f} s and {gib:.2f} GiB beside the vectors' {vectors.nbytes / 2**30:.2f}, and searches "
        f"{SEARCHED_SHARE:.0%} of its lists"
    )
    show(text_table(title, rows, {"search": (str, "search")}, COLUMNS))


if __name__ == "__main__":
    main()
