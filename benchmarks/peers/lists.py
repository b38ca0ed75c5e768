"""How a library's model is measured: it fits to a folder's training likes, and writes ten items for each test user."""

import inspect
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
from measuring import peak_gib

K = 10
LIMIT = int(sys.argv[3])  # CPU seconds of a neural model's training

Fitted = Callable[[], None]
Model = Callable[[pd.DataFrame, list[int], Fitted], pd.DataFrame]
"""Fits to likes (user_id, item_id, timestamp), says so, and returns users' best items in order: user_id, item_id."""


class TrainingStoppedError(Exception):
    """The training has taken its CPU seconds."""


def lines_of(model: Model) -> int:
    """Return the lines of code of a model's function and its helpers: what a user writes, from likes to lists."""
    helpers = [model.__globals__[name] for name in model.__code__.co_names if name.startswith("_")]
    sources = "\n".join(inspect.getsource(function) for function in (model, *helpers))
    lines = [line.strip() for line in sources.splitlines()]
    return len([line for line in lines if line and not line.startswith(("#", "def ", '"""', "fitted()"))])


def main(models: Mapping[str, Model]) -> None:
    """Fit a model of a folder, write its lists, and print what it cost."""
    folder, name = Path(sys.argv[1]), sys.argv[2]
    likes, users = (pd.read_csv(folder / f"{table}.csv") for table in ("train", "users"))
    clock = {"begin": time.process_time()}
    lists = models[name](likes, users["user_id"].to_list(), lambda: clock.update(fitted=time.process_time()))
    end = time.process_time()
    lists = lists[["user_id", "item_id"]].groupby("user_id", sort=False).head(K)
    lists.to_csv(folder / f"{name}.csv", index=False)
    costs = {
        "CPU seconds to fit": clock["fitted"] - clock["begin"],
        "ms per user": 1000 * (end - clock["fitted"]) / len(users),
        "peak GiB": peak_gib(),
        "lines of code": lines_of(models[name]),
    }
    print(json.dumps(costs))
