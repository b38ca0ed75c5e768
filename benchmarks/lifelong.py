"""What keeping up is worth: the last 30% of three logs in five blocks by time, before each of which models are updated.

    make bench-lifelong
    python benchmarks/lifelong.py --logs movielens-100k

Policies: a lens that stays as it was trained on the first 70%, and knows nothing later; the same lens, whose histories
and statistics are current; one that also learns from the new rows before each block; and one trained on all rows anew.
The last two learn from and validate on the same rows. Amazon Beauty and MovieTweetings are read as their environments
say.
"""

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
import polars as pl
from results import publish
from running import Project, open_project
from tqdm import tqdm

from reclora_kedro.distributed.engine import LOCAL
from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.evaluation.figures import empty_figure
from reclora_kedro.evaluation.scores import align_scores
from reclora_kedro.evaluation.segments import Segmentation, compute_segments
from reclora_kedro.evaluation.significance import bootstrap_auc, compare_models
from reclora_kedro.history.fields import describe_items
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.log_builder import Growth, build_log
from reclora_kedro.history.sequences import TimeLog, user_of_events
from reclora_kedro.lens.base import Lens
from reclora_kedro.lens.growth import continue_lens, grow_lens
from reclora_kedro.lens.layers import UNKNOWN_ID
from reclora_kedro.lens.states import LensReader, lens_scores
from reclora_kedro.lens.training import fit_lens
from reclora_kedro.llm.item_vectors import embed_items, embed_new_items
from reclora_kedro.pipelines.ingestion.nodes import build_canonical_tables

LOGS = {"movielens-100k": "base", "movietweetings": "movietweetings", "amazon-beauty": "amazon-beauty"}  # environments
FIRST, BLOCKS = 0.7, 5  # share of the samples before the blocks, and their number
VALIDATION = 0.2  # share of the newest block that validates
FROZEN, CURRENT, LENS, ANEW = POLICIES = ("frozen", "current histories and statistics", "lens", "full retraining")


class Tables(NamedTuple):
    """The canonical tables in order of appearance, so that those of an earlier moment are their first rows."""

    interactions: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame

    def until(self, second: int) -> "Tables":
        """What was there before a second."""
        interactions = self.interactions.filter(pl.col("timestamp") < second)
        items, users = (interactions[key].n_unique() for key in ("item_id", "user_id"))
        return Tables(interactions, self.items[:items], self.users[:users])


def read_tables(project: Project) -> Tables:
    """The tables of an environment, of whose items and users those remain that have an interaction."""
    scanned, *entities, _ = build_canonical_tables(
        project.load("raw_interactions"),
        project.load("raw_items"),
        project.load("raw_item_texts"),
        project.load("raw_users"),
        project.parameters["ingestion"],
        LOCAL,
    )
    interactions = scanned.collect()
    items, users = (
        interactions.select(pl.col(key).unique(maintain_order=True)).join(table, on=key, maintain_order="left")
        for key, table in zip(("item_id", "user_id"), entities, strict=True)
    )
    return Tables(interactions, items, users)


def even_blocks(tables: Tables, blocks: int) -> list[int]:
    """The first rows of blocks with equal numbers of rows."""
    return (np.linspace(FIRST, 1, blocks + 1)[:-1] * tables.interactions.height).astype(int).tolist()


def blocks_of(tables: Tables, project: Project, rows: Sequence[int]) -> Iterator[InteractionLog]:
    """For each block the log at its end: what was before it trains and validates, and the block tests.

    The newest rows before the block validate: of the first, as many as conf/base has; later, a share of the last block.

    Args:
        rows: the first row of each block.
    """
    history, engine = project.parameters["history"], LOCAL
    encoders = {name: project.load(name) for name in history.item_embedding.with_input}
    seconds = tables.interactions["timestamp"].to_numpy()

    def second_at(row: float) -> int:
        return int(seconds[int(row)])

    base = rows[0] * history.split.train / (history.split.train + history.split.validation)
    validation = [base, *(after - VALIDATION * (after - before) for before, after in pairwise(rows))]
    starts = [*map(second_at, rows), int(seconds[-1]) + 1]
    first = tables.until(starts[0])
    before = build_log(*first, history)
    assert isinstance(before, InteractionLog)
    texts = describe_items(tables.items)
    vectors = embed_items(texts[: first.items.height], history.item_embedding, encoders, history.seed, engine)
    for (start, end), place in zip(pairwise(starts), validation, strict=True):
        tables_until = tables.until(end)
        log = build_log(*tables_until, history, growth=Growth(before.sequences, second_at(place), start))
        assert isinstance(log, InteractionLog)
        of_known, of_before = texts[: tables_until.items.height], texts[: len(vectors["embeddings"])]
        vectors = embed_new_items(of_known, of_before, vectors, history.item_embedding, encoders, engine)
        yield log.with_embeddings(vectors["embeddings"], vectors["encoder_widths"])


def as_of(second: int, log: InteractionLog, samples: pl.DataFrame) -> pl.DataFrame:
    """The samples, asked when nothing of that second or later is known."""
    users, offsets = samples["user_index"].to_numpy(), log.sequences.offsets
    by_time = TimeLog(user_of_events(offsets), log.sequences.timestamp)
    _, end = by_time.range_before(users, np.full(len(users), second))
    return samples.with_columns(history_end=pl.Series(end), timestamp=pl.lit(second, pl.Int64))


def update(lens: Lens, policy: str, log: InteractionLog, parameters: Mapping[str, Any]) -> tuple[Lens, int]:
    """The lens before a block by a policy, and after how many epochs."""
    if policy == ANEW:
        lens, training_log = fit_lens(log, parameters["lens"])
        return lens, training_log.height
    if policy != LENS:
        return grow_lens(lens, log), 0
    lens, training_log = continue_lens(lens, log, parameters["update"]["lens"])
    return lens, training_log.height - 1


def follow(tables: Tables, project: Project, blocks: int) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    """Update by every policy before each block, and score it.

    Returns:
        The scores: block, start, row, user, label, model, score, new_user, new_item (to the first lens); and what the
        updates cost: block, policy, seconds, epochs.
    """
    parts, costs = [], []
    lenses: dict[str, Lens] = {}
    rows = begun = 0
    logs = blocks_of(tables, project, even_blocks(tables, blocks))
    for block, log in enumerate(tqdm(logs, desc="blocks", total=blocks), start=1):
        samples = log.samples[log.rows_in("test")]
        start = int(samples["timestamp"].to_numpy().min())
        if not lenses:
            begun, (lens, _) = start, fit_lens(log, project.parameters["lens"])
            lenses = dict.fromkeys(POLICIES, lens)
        else:
            for policy, lens in lenses.items():
                began = time.perf_counter()
                lenses[policy], epochs = update(lens, policy, log, project.parameters)
                seconds = time.perf_counter() - began
                costs.append({"block": block, "policy": policy, "seconds": seconds, "epochs": epochs})
        frozen = lenses[FROZEN]
        new = {
            f"new_{entity}": (codes == UNKNOWN_ID).numpy()[samples[f"{entity}_index"]]
            for entity, codes in (("user", frozen.user.id_codes), ("item", frozen.item.id_codes))
        }
        for policy, lens in lenses.items():
            seen_by_lens = as_of(begun, log, samples) if policy == FROZEN else samples
            scores = lens_scores({"logit": LensReader(lens, log).logits(seen_by_lens)})
            table = samples.select(pl.int_range(rows, rows + pl.len()).alias("row"), "label", user="user_index")
            parts.append(table.with_columns(block=block, start=start, model=pl.lit(policy), score=scores, **new))
        rows += samples.height
    return pl.concat(parts), costs


def auc_by_block(scores: pl.DataFrame, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """AUC of every policy on each block, with its interval."""
    records = []
    for (block, start), part in scores.partition_by("block", "start", as_dict=True, maintain_order=True).items():
        auc = bootstrap_auc(align_scores(part), bootstrap)
        low, high = auc.estimate().interval(bootstrap.confidence)
        for place, model in enumerate(auc.models):
            records.append(
                {
                    "block": block,
                    "from": str(pl.select(pl.from_epoch(pl.lit(start))).item().date()),
                    "rows": part.height // len(auc.models),
                    "policy": model,
                    "auc": auc.value[place],
                    "low": low[place],
                    "high": high[place],
                }
            )
    return records


def measure(name: str, project: Project, blocks: int) -> dict[str, list[dict[str, Any]]]:
    """AUC per block and over all of them, differences, segments and costs on one log."""
    bootstrap: Bootstrap = project.parameters["bootstrap"]
    tables = read_tables(project)
    scores, costs = follow(tables, project, blocks)
    updated = align_scores(scores.filter(pl.col("block") > 1))
    chosen = scores.filter(pl.col("block") > 1, model=FROZEN).sort("row")
    segmentations = [
        Segmentation(entity, [f"known {entity}s", f"new {entity}s"], chosen[f"new_{entity}"].cast(pl.Int64).to_numpy())
        for entity in ("user", "item")
    ]
    differences = compare_models(bootstrap_auc(updated, bootstrap), bootstrap.confidence)
    return {
        "AUC per block": [{"log": name, **record} for record in auc_by_block(scores, bootstrap)],
        "Differences, blocks after the first": [{"log": name, **record} for record in differences],
        "Segments, blocks after the first": [
            {"log": name, **record} for record in compute_segments(updated, segmentations)
        ],
        "Updates": [{"log": name, **cost} for cost in costs],
    }


def draw(by_block: list[dict[str, Any]]) -> go.Figure:
    """AUC per block of every policy, a plot per log."""
    frame = pl.DataFrame(by_block)
    names = frame["log"].unique(maintain_order=True).to_list()
    figure = empty_figure(cols=len(names), subplot_titles=names, horizontal_spacing=0.06)
    colours = ("#757B85", "#2A9D8F", "#E76F51", "#264653", "#E9C46A", "#457B9D", "#9B5DE5")
    for col, name in enumerate(names, start=1):
        for policy, colour in zip(frame["policy"].unique(maintain_order=True), colours, strict=False):
            part = frame.filter(log=name, policy=policy)
            figure.add_scatter(
                x=part["from"], y=part["auc"], name=policy, legendgroup=policy, showlegend=col == 1,
                line_color=colour, row=1, col=col,
            )  # fmt: skip
    figure.update_yaxes(title_text="AUC", col=1).update_xaxes(title_text="first day of the block")
    return figure.update_layout(legend_y=1.1)


def main() -> None:
    """Measure, print and keep the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", nargs="+", choices=LOGS, default=list(LOGS))
    parser.add_argument("--blocks", type=int, default=BLOCKS)
    arguments = parser.parse_args()
    tables: dict[str, list[dict[str, Any]]] = {}
    for name in arguments.logs:
        for title, records in measure(name, open_project(LOGS[name]), arguments.blocks).items():
            tables.setdefault(title, []).extend(records)
    publish("lifelong", tables, draw(tables["AUC per block"]), digits=4)


if __name__ == "__main__":
    main()
