"""What an update makes of an attack: a log with a block whose labels are turned around, or with a bot's rows.

    make bench-attacks
    python benchmarks/attacks.py --env movietweetings

A lens learns from the first 70% of the log in one pass. The next 10% are the block of an update; the last 20%, which
are as they were, tell what the lens is worth that is in use afterwards. Each block is also taken with `update.accept`.
"""

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
from lifelong import Tables, read_tables
from results import markdown
from running import Project, open_project
from sklearn.metrics import roc_auc_score

from reclora_kedro.distributed.engine import LOCAL
from reclora_kedro.history.fields import describe_items
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.log_builder import Growth, build_log
from reclora_kedro.ingestion.config import IngestionConfig
from reclora_kedro.lens.base import Lens
from reclora_kedro.lens.growth import grow_lens
from reclora_kedro.lens.states import LensReader
from reclora_kedro.lens.training import fit_lens
from reclora_kedro.llm.item_vectors import embed_items
from reclora_kedro.pipelines.update import nodes

FIRST, BLOCK = 0.7, 0.8  # shares of the log where the block begins and ends
BOT_ROWS = 20_000


def attacks(block: pl.DataFrame, config: IngestionConfig) -> Iterator[tuple[str, pl.DataFrame]]:
    """The block as it is, with all labels turned around, and with the rows of a bot."""
    yield "none", block
    turned = config.rating_min + config.rating_max - pl.col("rating")
    yield "labels turned around", block.with_columns(rating=turned, label=1 - pl.col("label"))
    random, seconds = np.random.default_rng(0), block["timestamp"].to_numpy()
    bot = {
        "user_id": np.full(BOT_ROWS, 10**9),
        "item_id": random.choice(block["item_id"].to_numpy(), BOT_ROWS),
        "rating": random.choice([config.rating_min, config.rating_max], BOT_ROWS),
        "timestamp": random.integers(seconds[0], seconds[-1], BOT_ROWS),
    }
    liked = (pl.col("rating") >= config.label_threshold).cast(pl.Int8)
    rows = pl.concat([block, pl.DataFrame(bot, block.drop("label").schema).with_columns(label=liked)])
    yield "a bot", rows.unique(["user_id", "item_id", "timestamp"]).sort("timestamp", "user_id", "item_id")


def in_use_after(
    tables: Tables, new: pl.DataFrame, log: InteractionLog, vectors: dict[str, np.ndarray], lens: Lens,
    project: Project, encoders: list[Any], accept: bool,
) -> dict[str, Any]:  # fmt: skip
    """Update a lens and its log with new interactions; what was decided, and the AUC on what follows them."""
    settings = project.parameters
    history, update, config = settings["history"], settings["update"], settings["ingestion"]
    seconds = new["timestamp"].to_numpy()
    before = tables.until(int(seconds.min())).interactions.lazy()
    interactions, quarantined, _ = nodes.append_interactions(
        new, before, log, lens, config, history, update["examination"], accept
    )
    items, users, _ = nodes.append_entities(interactions, log.items, log.users, None, None, None, config)
    grown, _ = nodes.build_grown_log(interactions, items, users, log, history, update["split"], LOCAL)
    vectors, grown = nodes.embed_new_items(grown, log, vectors, history, LOCAL, *encoders)
    challenger, _ = nodes.train_challenger(lens, grown, log, update["lens"], update["promotion"], LOCAL)
    chosen, decision = nodes.promote(
        lens, challenger, lens, grown, log, update["promotion"], settings["bootstrap"], accept
    )
    end = int(seconds.max())
    later = pl.concat([interactions, tables.interactions.lazy().filter(pl.col("timestamp") > end)])
    items, users, _ = nodes.append_entities(later, items, users, None, None, None, config)
    log_later = build_log(later, items, users, history, growth=Growth(grown.sequences, end + 1, end + 1))
    _, log_later = nodes.embed_new_items(log_later, grown, vectors, history, LOCAL, *encoders)
    samples = log_later.samples[log_later.rows_in("test")]
    aucs = {
        name: roc_auc_score(samples["label"], LensReader(grow_lens(each, log_later), log_later).logits(samples))
        for name, each in (("challenger", challenger), ("in use", chosen))
    }
    return {
        "accept": accept,
        "quarantined": quarantined.height,
        "newest rows": decision["difference"],
        "older rows": decision["held_out"]["difference"],
        "decision": decision["chosen"],
        "its reason": decision["reason"],
        "AUC of the challenger later": aucs["challenger"],
        "of what is in use": aucs["in use"],
    }


def main() -> None:
    """Print what became of each attack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="base", help="environment whose data are used")
    project = open_project(parser.parse_args().env)
    tables, history = read_tables(project), project.parameters["history"]
    seconds = tables.interactions["timestamp"].to_numpy()
    begin, end = (int(seconds[int(share * len(seconds))]) for share in (FIRST, BLOCK))
    first = tables.until(begin)
    encoders = [project.load(name) for name in history.item_embedding.with_input]
    named = dict(zip(history.item_embedding.with_input, encoders, strict=True))
    vectors = embed_items(describe_items(first.items), history.item_embedding, named, history.seed, LOCAL)
    log = build_log(*first, history)
    assert isinstance(log, InteractionLog)
    log = log.with_embeddings(vectors["embeddings"], vectors["encoder_widths"])
    lens, _ = fit_lens(log, project.parameters["lens"].model_copy(update={"max_epochs": 1}))
    block = tables.interactions.filter(pl.col("timestamp").is_between(begin, end - 1))
    records = [
        {"attack": name} | in_use_after(tables, new, log, vectors, lens, project, encoders, accept)
        for name, new in attacks(block, project.parameters["ingestion"])
        for accept in (False, True)
    ]
    print(markdown(records, digits=4))


if __name__ == "__main__":
    main()
