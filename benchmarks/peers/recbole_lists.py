"""Models of RecBole: `python -m peers.recbole_lists FOLDER MODEL LIMIT`, see benchmarks/libraries.py."""

import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"  # RecBole's checkpoints hold its settings as objects

from peers.lists import LIMIT, K, Peer, Recommend, TrainingStoppedError, main
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed
from recbole.utils.case_study import full_sort_scores


def sasrec(likes: pd.DataFrame) -> Recommend:
    """SASRec."""
    return _run("SASRec", {"train_neg_sample_args": None}, likes)


def lightgcn(likes: pd.DataFrame) -> Recommend:
    """LightGCN."""
    return _run("LightGCN", {}, likes)


def recvae(likes: pd.DataFrame) -> Recommend:
    """RecVAE."""
    return _run("RecVAE", {"train_neg_sample_args": None}, likes)


def _run(name: str, settings: dict, likes: pd.DataFrame) -> Recommend:
    # The library holds out each user's last two rows; a copy of the last one stands for what is asked; nobody reads it.
    last = likes.groupby("user_id", as_index=False).tail(1)
    rows = pd.concat([likes, last.assign(timestamp=last["timestamp"] + 10**9)])
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "log").mkdir()
        columns = {"user_id": "user_id:token", "item_id": "item_id:token", "timestamp": "timestamp:float"}
        rows.rename(columns=columns)[[*columns.values()]].to_csv(Path(folder) / "log/log.inter", sep="\t", index=False)
        config = Config(name, "log", config_dict={
            "data_path": folder, "checkpoint_dir": folder, "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
            "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full", "group_by": "user"},
            "show_progress": False, "use_gpu": False, "state": "ERROR", "nproc": 1, **settings,
        })  # fmt: skip
        init_seed(config["seed"], config["reproducibility"])
        dataset = create_dataset(config)
        train, validation, test = data_preparation(config, dataset)
        model = get_model(config["model"])(config, train.dataset).to(config["device"])
        trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
        try:
            trainer.fit(train, validation, show_progress=False, callback_fn=_stop)
        except TrainingStoppedError:
            print("stopped after its CPU seconds", file=sys.stderr)
        trainer.evaluate(validation, load_best_model=True, show_progress=False)
    return partial(_recommend, likes, dataset, model, test)


def _recommend(likes: pd.DataFrame, dataset: Any, model: Any, test: Any, users: list[int]) -> pd.DataFrame:
    taken = likes.groupby("user_id")["item_id"].apply(set)
    lists = []
    for start in range(0, len(users), 256):
        some = users[start : start + 256]
        inner = dataset.token2id("user_id", [str(user) for user in some])
        for user, scores in zip(some, full_sort_scores(inner, model, test).numpy(), strict=True):
            own = dataset.token2id("item_id", [str(item) for item in taken[user]])
            scores[own] = -np.inf
            best = np.argsort(-scores, kind="stable")[:K]
            lists += [(user, int(item)) for item in dataset.id2token("item_id", best)]
    return pd.DataFrame(lists, columns=["user_id", "item_id"])


def _stop(epoch: int, score: float) -> None:
    if time.process_time() > LIMIT:
        raise TrainingStoppedError


if __name__ == "__main__":
    main({"RecBole SASRec": Peer(sasrec), "RecBole LightGCN": Peer(lightgcn), "RecBole RecVAE": Peer(recvae)})
