"""A retriever's best items in a large catalogue: an approximate index beside scores of every item.

    python benchmarks/large_catalogue.py --items 1000000

Vectors are made up: items around one centre per 200 items, of unequal lengths; states of users near sums of two items.
Those of a trained retriever have fewer directions of large variance, along popularity above all, so that their lists
are less equal in size. Times are CPU time of one thread.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import psutil
import torch
from threadpoolctl import threadpool_limits

from reclora_kedro.retrievers.index import SEARCHED_SHARE, ItemIndex
from reclora_kedro.terminal import show, text_table

ITEMS_PER_CENTRE = 200
SCORES_AT_ONCE = 2**24
COLUMNS = {
    "recall": ("{:.4f}".format, "recall"),
    "ms per user": ("{:.3f}".format, "milliseconds"),
    "times as fast": ("{:.1f}".format, "ratio"),
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


def best_by_scores(vectors: np.ndarray, states: np.ndarray, most: int) -> np.ndarray:
    table, found = torch.from_numpy(vectors).T, list[np.ndarray]()
    for block in torch.from_numpy(states).split(max(1, SCORES_AT_ONCE // len(vectors))):
        found.append((block @ table).topk(most).indices.numpy())
    return np.concatenate(found)


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    began = time.process_time()
    result = work()
    return result, time.process_time() - began


def measure(vectors: np.ndarray, states: np.ndarray, most: int, index: ItemIndex) -> Iterator[dict[str, Any]]:
    """Yield recall and time of exact scores, and of shares of the index's lists."""
    best, exact = timed(lambda: best_by_scores(vectors, states, most))
    yield {"search": "every item", "recall": 1.0, "milliseconds": 1e3 * exact / len(states), "ratio": 1.0}
    lists, chosen = index.lists.nlist, index.lists.nprobe
    for searched in sorted({max(1, chosen // 2), chosen, min(lists, 2 * chosen)}):
        index.lists.nprobe = searched
        found, seconds = timed(lambda: index.search(states, most))
        yield {
            "search": f"{searched} of {lists} lists" + (" (chosen)" if searched == chosen else ""),
            "recall": np.mean([np.isin(*rows).mean() for rows in zip(best, found, strict=True)]),
            "milliseconds": 1e3 * seconds / len(states),
            "ratio": exact / max(seconds, 1e-9),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=500)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--most", type=int, default=100)
    arguments = parser.parse_args()
    vectors, states = made_up(arguments.items, arguments.users, arguments.dim, seed=0)
    torch.set_num_threads(1)
    with threadpool_limits(1):
        resident = psutil.Process().memory_info().rss
        index, built = timed(lambda: ItemIndex(vectors, np.arange(len(vectors)), seed=0))
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
