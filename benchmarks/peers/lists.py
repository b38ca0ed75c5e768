"""How a library's model is measured: it fits to a folder's training likes, and writes ten items for each test user."""

import inspect
import itertools
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from measuring import peak_gib

K = 10
LIMIT = int(sys.argv[3])  # CPU seconds of a neural model's training, and of a search
SEARCHED, BY_RECENCY = ", searched", ", by recency"  # after the name of a model: how its settings are searched
RECENCIES = (1.0, 0.9, 0.8, 0.7, 0.6)  # weights of a like, times that of the user's next later one, as ours are tried
VALIDATION_USERS, LEAST_LIKES = 2000, 5

Recommend = Callable[[list[int]], pd.DataFrame]
"""Returns users' best items in order: user_id, item_id."""


class Peer(NamedTuple):
    """A model, as a user would write it, and values of its settings to search among.

    Attributes:
        fit: fits to likes (user_id, item_id, timestamp, weight) with settings, those left out being the library's
            defaults. A model that reads weights reads histories by `recency`, too.
    """

    fit: Callable[..., Recommend]
    grid: Mapping[str, Sequence[Any]] = {}


def by_recency(likes: pd.DataFrame, recency: float) -> pd.DataFrame:
    """Return likes with a weight each: 1 for a user's last one, and `recency` times that of the next for the others."""
    return likes.assign(weight=recency ** likes.groupby("user_id").cumcount(ascending=False).astype(float))


class TrainingStoppedError(Exception):
    """The training has taken its CPU seconds."""


def search(peer: Peer, likes: pd.DataFrame, recencies: Sequence[float] = RECENCIES[:1]) -> tuple[dict[str, Any], int]:
    """Return the settings with the highest NDCG for the last known like of some users, and how many were tried.

    The library's defaults come first, then the grid in an order drawn by chance, each with every recency.
    """
    of_user = likes.groupby("user_id")
    is_last = (of_user.cumcount(ascending=False) == 0) & (of_user["item_id"].transform("size") >= LEAST_LIKES)
    drawn = np.random.default_rng(0).permutation(np.flatnonzero(is_last))[:VALIDATION_USERS]
    held_out = likes.iloc[drawn].set_index("user_id")["item_id"]
    known = likes.drop(index=likes.index[drawn])
    began, found = time.process_time(), list[tuple[float, dict[str, Any]]]()
    every = [dict(zip(peer.grid, values, strict=True)) for values in itertools.product(*peer.grid.values())]
    shuffled = [every[number] for number in np.random.default_rng(0).permutation(len(every))]
    for settings, recency in itertools.product([{}, *shuffled], recencies):
        settings = settings if recency == 1 else {**settings, "recency": recency}
        lists = best_items(peer.fit(known, **settings)(held_out.index.to_list()), known)
        place = lists.groupby("user_id", sort=False).cumcount()
        hits = lists["item_id"].to_numpy() == held_out.loc[lists["user_id"]].to_numpy()
        found.append((float((hits / np.log2(2 + place)).sum()), settings))
        if time.process_time() - began > LIMIT:
            break
    return max(found, key=lambda pair: pair[0])[1], len(found)


def best_items(lists: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """Return the first items of lists without those that users are known to like, which some libraries fill up with."""
    lists = lists[["user_id", "item_id"]].merge(known[["user_id", "item_id"]], how="left", indicator="is_known")
    return lists[lists["is_known"] == "left_only"].groupby("user_id", sort=False).head(K)[["user_id", "item_id"]]


def lines_of(fit: Callable[..., Recommend]) -> int:
    """Return the lines of code of a model's function and its helpers: what a user writes, from likes to lists."""
    helpers = [fit.__globals__[name] for name in fit.__code__.co_names if name.startswith("_")]
    sources = "\n".join(inspect.getsource(function) for function in (fit, *helpers))
    lines = [line.strip() for line in sources.splitlines()]
    return len([line for line in lines if line and not line.startswith(("#", "def ", '"""'))])


def main(peers: Mapping[str, Peer]) -> None:
    """Fit a model to a folder's likes, write its lists, and print what it cost."""
    folder, name = Path(sys.argv[1]), sys.argv[2]
    likes, users = (pd.read_csv(folder / f"{table}.csv") for table in ("train", "users"))
    model, _, how = name.partition(",")
    peer, began, settings, tried = peers[model], time.process_time(), dict[str, Any](), 1
    if f",{how}" in (SEARCHED, BY_RECENCY):
        settings, tried = search(peer, likes, RECENCIES if f",{how}" == BY_RECENCY else RECENCIES[:1])
    recommend = peer.fit(likes, **settings)
    fitted = time.process_time()
    lists = recommend(users["user_id"].to_list())
    ended = time.process_time()
    lists[["user_id", "item_id"]].groupby("user_id", sort=False).head(K).to_csv(folder / f"{name}.csv", index=False)
    costs = {
        "trials": tried,
        "CPU seconds to fit": fitted - began,
        "ms per user": 1000 * (ended - fitted) / len(users),
        "peak GiB": peak_gib(),
        "lines of code": lines_of(peer.fit),
        "settings": json.dumps(settings),
    }
    print(json.dumps(costs))
