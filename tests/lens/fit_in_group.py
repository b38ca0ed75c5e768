"""What each process of a group does that torchrun starts: it fits the lens of a folder, and the first one keeps it."""

import sys
from pathlib import Path

import numpy as np
from safetensors.torch import save_file
from torch import distributed

from reclora_kedro.histories.log import InteractionLog
from reclora_kedro.lens.config import LensConfig
from reclora_kedro.lens.training import _fit


def fit(folder):
    distributed.init_process_group("gloo")
    log = InteractionLog.load(folder).with_embeddings(np.load(folder / "item_embeddings.npy"))
    lens, training_log = _fit(log, LensConfig.model_validate_json((folder / "lens.json").read_text()))
    if distributed.get_rank() == 0:
        save_file(lens.state_dict(), folder / "lens.safetensors")
        training_log.write_parquet(folder / "training_log.parquet")
    distributed.destroy_process_group()


if __name__ == "__main__":
    fit(Path(sys.argv[1]))
