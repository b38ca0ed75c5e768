"""Models of RecTools: `python -m peers.rectools_lists FOLDER MODEL LIMIT`, see benchmarks/libraries.py."""

import tempfile
import time
import warnings
from typing import Any

import pandas as pd
from catboost import CatBoostRanker
from implicit.nearest_neighbours import BM25Recommender
from peers.lists import LIMIT, K, Peer, Recommend, by_recency, main
from pytorch_lightning import Callback, LightningModule, Trainer, seed_everything
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from rectools.dataset import Dataset
from rectools.model_selection import LastNSplitter
from rectools.models import EASEModel, ImplicitItemKNNWrapperModel, PopularModel, SASRecModel
from rectools.models.nn.transformers.ligr import LiGRLayers
from rectools.models.nn.transformers.utils import leave_one_out_mask
from rectools.models.ranking import CandidateGenerator, CandidateRankingModel, CatBoostReranker

warnings.filterwarnings("ignore")
FITTED: dict[str, Any] = {}  # the last EASE, and what it was fitted with


def ease(likes: pd.DataFrame, recency: float = 1.0, **settings: float) -> Recommend:
    """EASE."""
    dated = likes.assign(datetime=pd.to_datetime(likes["timestamp"], unit="s"), weight=1.0)
    model = _fitted_ease(dated, settings)
    weighted = Dataset.construct(by_recency(dated, recency))
    return lambda users: model.recommend(users, weighted, k=K, filter_viewed=True)


def _fitted_ease(dated: pd.DataFrame, settings: dict[str, float]) -> EASEModel:
    if FITTED.get("of") != (len(dated), settings):  # weights do not read recency: a search fits once for all
        model = EASEModel(recommend_n_threads=1, **settings)
        FITTED.update(of=(len(dated), settings), model=model.fit(Dataset.construct(dated)))
    return FITTED["model"]


def sasrec(likes: pd.DataFrame) -> Recommend:
    """SASRec with the library's sizes, stopped by its validation loss."""
    return _transformer(likes)


def esasrec(likes: pd.DataFrame) -> Recommend:
    """eSASRec: LiGR layers and a sampled softmax."""
    return _transformer(likes, loss="sampled_softmax", n_negatives=256, transformer_layers_type=LiGRLayers)


def _transformer(likes: pd.DataFrame, **settings: object) -> Recommend:
    seed_everything(42)
    dataset = Dataset.construct(likes.assign(datetime=pd.to_datetime(likes["timestamp"], unit="s"), weight=1.0))
    with tempfile.TemporaryDirectory() as folder:

        def trainer() -> Trainer:
            best = ModelCheckpoint(folder, monitor="val_loss")
            return Trainer(
                max_epochs=100, callbacks=[EarlyStopping("val_loss", patience=5), best, CpuLimit()], accelerator="cpu",
                logger=False, enable_progress_bar=False, enable_model_summary=False,
            )  # fmt: skip

        model = SASRecModel(get_val_mask_func=_last_like_of_some, get_trainer_func=trainer, **settings)
        model.fit(dataset)
        model.load_weights_from_checkpoint(model.fit_trainer.checkpoint_callback.best_model_path)
    return lambda users: model.recommend(users, dataset, k=K, filter_viewed=True)


def _last_like_of_some(likes: pd.DataFrame) -> object:
    return leave_one_out_mask(likes, val_users=min(1000, likes["user_id"].nunique()))


class CpuLimit(Callback):
    """Ends a training after its CPU seconds."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *step: object) -> None:
        """A step has ended; the loss of validation is read once more."""
        trainer.should_stop = trainer.should_stop or time.process_time() > LIMIT


def two_stage(likes: pd.DataFrame) -> Recommend:
    """Candidates of EASE, BM25 and popularity, ordered by CatBoost."""
    dataset = Dataset.construct(likes.assign(datetime=pd.to_datetime(likes["timestamp"], unit="s"), weight=1.0))
    knn = ImplicitItemKNNWrapperModel(BM25Recommender())
    generators = [
        CandidateGenerator(model, num_candidates=50, keep_ranks=True, keep_scores=True)
        for model in (EASEModel(recommend_n_threads=1), knn, PopularModel())
    ]
    reranker = CatBoostReranker(
        CatBoostRanker(random_seed=42, thread_count=1, verbose=False, allow_writing_files=False)
    )
    model = CandidateRankingModel(generators, LastNSplitter(1, n_splits=1), reranker)
    model.fit(dataset)
    return lambda users: model.recommend(users, dataset, k=K, filter_viewed=True)


if __name__ == "__main__":
    regularizations = [10, 30, 100, 200, 300, 500, 700, 1000, 1500, 2000, 3000, 5000]
    main(
        {
            "RecTools EASE": Peer(ease, {"regularization": regularizations}),
            "RecTools two-stage": Peer(two_stage),
            "RecTools SASRec": Peer(sasrec),
            "RecTools eSASRec": Peer(esasrec),
        }
    )
