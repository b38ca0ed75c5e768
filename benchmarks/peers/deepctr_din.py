"""DeepCTR-Torch's DIN, trained by its own `fit`: `python -m peers.deepctr_din FOLDER`, see benchmarks/lens.py."""

import json
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from measuring import peak_gib

# The package asks its registry for a newer version as soon as it is imported; with this stand-in it goes on unasked.
sys.modules["requests"] = ModuleType("requests")

from deepctr_torch.callbacks import Callback  # noqa: E402
from deepctr_torch.inputs import SparseFeat, VarLenSparseFeat  # noqa: E402
from deepctr_torch.models import DIN  # noqa: E402


class Clock(Callback):
    """Seconds of each epoch's training alone, and the validation AUC after it."""

    def __init__(self, inputs: dict[str, np.ndarray], labels: np.ndarray) -> None:
        super().__init__()
        self.inputs, self.labels = inputs, labels
        self.first_start: float | None = None
        self.epochs: list[float] = []
        self.aucs: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """An epoch starts."""
        self.start = time.perf_counter()
        self.first_start = self.first_start or self.start

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """An epoch has ended; `fit` has no validation data, so that nothing but training was timed."""
        self.epochs.append(time.perf_counter() - self.start)
        self.aucs.append(float(self.model.evaluate(dict(self.inputs), self.labels)["auc"]))


def main(folder: Path) -> None:
    """Train on the folder's rows and print what it cost."""
    lens = json.loads((folder / "lens.json").read_text())
    vocabulary = json.loads((folder / "vocabulary.json").read_text())
    train, validation = (dict(np.load(folder / f"{split}.npz")) for split in ("train", "validation"))
    dim = lens["embedding_dim"]
    columns = [SparseFeat(name, size, embedding_dim=dim) for name, size in vocabulary.items()]
    history = SparseFeat("hist_item_id", vocabulary["item_id"], embedding_dim=dim, embedding_name="item_id")
    columns.append(VarLenSparseFeat(history, maxlen=lens["recent_length"], length_name="history_length"))
    model = DIN(
        columns,
        ["item_id"],
        dnn_hidden_units=[lens["hidden_dim"]] * 2,
        att_hidden_size=[16],
        att_activation="relu",  # by default Dice, which is slower
        att_weight_normalization=True,
        l2_reg_embedding=0,
        seed=lens["seed"],
    )
    adam = torch.optim.Adam(model.parameters(), lr=lens["learning_rate"])
    model.compile(adam, "binary_crossentropy", metrics=["auc"])
    clock = Clock(validation, validation.pop("label"))
    start = time.perf_counter()
    labels = train.pop("label")
    # verbose=1 would compute an AUC of every training batch too.
    model.fit(train, labels, lens["batch_size"], lens["max_epochs"], verbose=0, callbacks=[clock])
    assert clock.first_start is not None
    preparation = clock.first_start - start
    print(json.dumps({"preparation": preparation, "epochs": clock.epochs, "auc": max(clock.aucs), "GiB": peak_gib()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
