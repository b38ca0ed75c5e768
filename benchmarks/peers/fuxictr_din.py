"""A DIN of FuxiCTR's layers under its own trainer: `python -m peers.fuxictr_din FOLDER`, see benchmarks/lens.py."""

import json
import sys
import time
from pathlib import Path
from typing import Any

from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders import RankDataLoader
from fuxictr.pytorch.layers import DIN_Attention, FeatureEmbeddingDict, MLP_Block
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.torch_utils import seed_everything
from measuring import peak_gib


class Din(BaseModel):
    """Embedded fields and the history as the target weighs it, through an MLP; counts the seconds of its training."""

    def __init__(self, feature_map: FeatureMap, lens: dict[str, Any], model_root: Path) -> None:
        super().__init__(
            feature_map,
            model_id="DIN",
            early_stop_patience=lens["patience"],
            reduce_lr_on_plateau=False,
            metrics=["AUC"],
            model_root=str(model_root),
            verbose=0,
        )
        dim = lens["embedding_dim"]
        self.embedding = FeatureEmbeddingDict(feature_map, dim)
        self.attention = DIN_Attention(dim, [16], use_softmax=True)
        self.mlp = MLP_Block(
            feature_map.sum_emb_out_dim(),
            [lens["hidden_dim"]] * 2,
            output_dim=1,
            output_activation=self.output_activation,
        )
        self.compile("adam", "binary_crossentropy", lens["learning_rate"])
        self.reset_parameters()
        self.model_to_device()
        self.epochs: list[float] = []

    def forward(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Probabilities of a like."""
        indices = self.get_inputs(inputs)
        vectors = self.embedding(indices)
        vectors["hist_item_id"] = self.attention(
            vectors["item_id"], vectors["hist_item_id"], indices["hist_item_id"] > 0
        )
        return {"y_pred": self.mlp(self.embedding.dict2tensor(vectors, flatten_emb=True))}

    def train_epoch(self, data_generator: Any) -> None:
        """One epoch; the trainer evaluates at its end, which is not counted."""
        self.evaluation_seconds = 0.0
        start = time.perf_counter()
        super().train_epoch(data_generator)
        self.epochs.append(time.perf_counter() - start - self.evaluation_seconds)

    def eval_step(self) -> None:
        """Validation, and the checkpoint if it is the best yet."""
        start = time.perf_counter()
        super().eval_step()
        self.evaluation_seconds = time.perf_counter() - start


def describe_features(vocabulary: dict[str, int], lens: dict[str, Any], folder: Path) -> FeatureMap:
    """The columns of the folder's arrays; the history shares the target item's embedding, 0 is padding."""
    feature_map = FeatureMap("movielens", str(folder))
    for name, size in vocabulary.items():
        feature_map.features[name] = {"type": "categorical", "vocab_size": size, "padding_idx": 0}
    feature_map.features["hist_item_id"] = feature_map.features["item_id"] | {
        "type": "sequence",
        "max_len": lens["recent_length"],
        "share_embedding": "item_id",
    }
    feature_map.labels = ["label"]
    feature_map.default_emb_dim = lens["embedding_dim"]
    feature_map.set_column_index()
    return feature_map


def main(folder: Path) -> None:
    """Train on the folder's rows and print what it cost."""
    lens = json.loads((folder / "lens.json").read_text())
    vocabulary = json.loads((folder / "vocabulary.json").read_text())
    (folder / "movielens").mkdir(exist_ok=True)  # where the trainer keeps its checkpoint
    seed_everything(lens["seed"])
    start = time.perf_counter()
    feature_map = describe_features(vocabulary, lens, folder)
    paths = {"train_data": str(folder / "train.npz"), "valid_data": str(folder / "validation.npz")}
    train, validation = RankDataLoader(feature_map, stage="train", batch_size=lens["batch_size"], **paths)
    preparation = time.perf_counter() - start
    model = Din(feature_map, lens, folder)
    model.fit(train, lens["max_epochs"], validation)  # and load the best epoch's weights
    auc = model.evaluate(validation)["AUC"]
    print(json.dumps({"preparation": preparation, "epochs": model.epochs, "auc": auc, "GiB": peak_gib()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
