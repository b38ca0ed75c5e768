"""Requests to be forgotten, one after another, as ERASE has them (Lubitzsch et al., arXiv 2603.08341).

    make bench-deletions
    python benchmarks/deletions.py --log movielens-100k --requests 2 --seeds 1

Each request names some users with rows that trained the lens. `forget` removes them from the tables, the log and the
lens that the request before has left; beside it, a lens is trained from scratch on the same remaining log. Both answer
for the test split of the others, see `windows`, and for the training rows of all who were forgotten, as if these users
came back as new ones: a lens that predicts these rows better than the one that never read them has traces of them.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from typing import Any

import plotly.graph_objects as go
import polars as pl
from lifelong import LOGS, read_tables
from results import publish, timed
from running import Project, open_project
from sklearn.metrics import roc_auc_score
from tqdm import tqdm
from windows import METRICS, Window, configs_by_seed, rules, summarize, train_ranker

from reclora_kedro.evaluation.figures import empty_figure
from reclora_kedro.evaluation.records import Records
from reclora_kedro.history.config import HistoryConfig
from reclora_kedro.history.fields import describe_items
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.log_builder import Growth, build_log
from reclora_kedro.lens.base import Lens
from reclora_kedro.lens.growth import grow_lens
from reclora_kedro.lens.states import LensReader
from reclora_kedro.lens.training import fit_lens
from reclora_kedro.llm.item_vectors import embed_items
from reclora_kedro.recommendation.chosen import Choice
from reclora_kedro.update.forgetting import (
    Tables,
    forget_in_lens,
    forget_in_log,
    forget_in_tables,
    kept_rows,
    split_moments,
)

REQUESTS, USERS, SEEDS = 3, 30, 3  # requests, users of each, and lenses
LEAST = 20  # training rows of a user who is forgotten
TRAINED, FORGET, ANEW = "before any request", "forget", "full retraining"
TRACES = "AUC, forgotten rows"
SECONDS = "CPU seconds"
MEASURES = (*METRICS, TRACES, SECONDS)


def build(tables: Tables, project: Project) -> InteractionLog:
    """The log of all users, with item vectors."""
    history = project.parameters["history"]
    log = build_log(*tables, history)
    assert isinstance(log, InteractionLog)
    encoders = {name: project.load(name) for name in history.item_embedding.with_input}
    vectors = embed_items(describe_items(tables.items), history.item_embedding, encoders, history.seed)
    return log.with_embeddings(vectors["embeddings"], vectors["encoder_widths"])


def draw_users(log: InteractionLog, number: int, least: int, seed: int) -> list[Any]:
    """The ids of users with at least so many training rows, in random order."""
    rows = log.samples_in("train")["user_index"].value_counts().filter(pl.col("count") >= least)
    return log.users["user_id"].gather(rows["user_index"].sort()).sample(number, shuffle=True, seed=seed).to_list()


def with_vectors_of(before: InteractionLog, log: InteractionLog) -> InteractionLog:
    """The log with the vectors that another log has of its items."""
    assert before.item_embeddings is not None
    rows = kept_rows(before.items["item_id"], log.items["item_id"])
    return log.with_embeddings(before.item_embeddings[rows], before.encoder_widths)


def with_users_back(tables: Tables, left: Tables, log: InteractionLog, config: HistoryConfig) -> InteractionLog:
    """The log of all rows, in which those who were forgotten follow the others, as new users would."""
    users, items = (
        pl.concat([kept, everything.join(kept, on=key, how="anti", maintain_order="left")])
        for kept, everything, key in ((left.users, tables.users, "user_id"), (left.items, tables.items, "item_id"))
    )
    moments = split_moments(log)
    assert moments  # the splits are by time
    built = build_log(tables.interactions, items, users, config, growth=Growth(log.sequences, *moments))
    assert isinstance(built, InteractionLog)
    return built


def auc_of_training_rows(lens: Lens, log: InteractionLog, ids: Sequence[Any]) -> float:
    """The AUC on the training rows of some users."""
    rows = log.samples_in("train").filter(pl.col("user_index").is_in(log.find_users(ids)["user_index"].implode()))
    return float(roc_auc_score(rows["label"], LensReader(lens, log).logits(rows).numpy()))


def follow(project: Project, requests: int, users: int, least: int, seeds: int) -> Iterator[dict[str, Any]]:
    """Measure lenses of several seeds after each request, and before the first one.

    Yields:
        Records of request, forgotten (users so far), seed, lens and `MEASURES`; None is what was not measured.
    """
    parameters = project.parameters
    config, configs = parameters["history"], configs_by_seed(parameters, seeds)
    interactions, items, users_table = read_tables(project)
    tables = left = Tables(interactions.lazy(), items, users_table)
    everybody = log = build(tables, project)
    ids = draw_users(log, requests * users, least, config.seed)
    moments = split_moments(log)
    assert moments  # the splits are by time

    trained, rankers = list[Lens](), list[Choice]()
    window = Window(log, moments[1], rules(parameters))
    for seed in range(seeds):
        (lens, _), seconds = timed(fit_lens, log, configs[seed], clock=time.process_time)
        trained.append(lens)
        rankers.append(train_ranker(log, lens, parameters))
        measured = window.by_lens(lens, moments[1], rankers[seed]) | {TRACES: None, SECONDS: seconds}
        yield {"request": 0, "forgotten": 0, "seed": seed, "lens": TRAINED} | measured
    kept = [*trained]
    for request in tqdm(range(1, requests + 1), desc="requests"):
        named = ids[(request - 1) * users : request * users]
        left, tables_seconds = timed(forget_in_tables, left, named, parameters["ingestion"], clock=time.process_time)
        after, log_seconds = timed(forget_in_log, left, log, config, clock=time.process_time)
        assert isinstance(after, InteractionLog)
        after = with_vectors_of(log, after)
        back = with_vectors_of(everybody, with_users_back(tables, left, after, config))
        window = Window(after, moments[1], rules(parameters))
        for seed in range(seeds):
            kept[seed], edit_seconds = timed(forget_in_lens, kept[seed], log, after, clock=time.process_time)
            (anew, _), fit_seconds = timed(fit_lens, after, configs[seed], clock=time.process_time)
            lenses = {FORGET: (kept[seed], edit_seconds), ANEW: (anew, fit_seconds)}
            where = {"request": request, "forgotten": request * users, "seed": seed}
            measured = dict.fromkeys(MEASURES) | {
                TRACES: auc_of_training_rows(trained[seed], everybody, ids[: request * users])
            }
            yield where | {"lens": TRAINED} | measured
            for name, (lens, seconds) in lenses.items():
                traces = auc_of_training_rows(grow_lens(lens, back), back, ids[: request * users])
                measured = window.by_lens(lens, moments[1], rankers[seed])
                measured |= {TRACES: traces, SECONDS: tables_seconds + log_seconds + seconds}
                yield where | {"lens": name} | measured
        log = after


def draw(by_request: Records) -> go.Figure:
    """The measures after each request by lens, a plot per measure."""
    frame = pl.DataFrame(by_request, infer_schema_length=None)
    figure = empty_figure(cols=len(MEASURES), subplot_titles=MEASURES, horizontal_spacing=0.05)
    for col, name in enumerate(MEASURES, start=1):
        for lens, colour in ((TRAINED, "#757B85"), (FORGET, "#E76F51"), (ANEW, "#264653")):
            part = frame.filter(lens=lens)
            figure.add_scatter(
                x=part["forgotten"], y=part[name], name=lens, legendgroup=lens, showlegend=col == 1,
                mode="lines+markers", line_color=colour, row=1, col=col,
            )  # fmt: skip
    figure.update_xaxes(title_text="forgotten users")
    return figure.update_layout(legend_y=1.2, legend_orientation="h")


def main() -> None:
    """Measure, print and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log", choices=LOGS, default="movietweetings")
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--users", type=int, default=USERS, help="users of a request")
    parser.add_argument("--least", type=int, default=LEAST, help="training rows that each of them has at least")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="number of lenses")
    arguments = parser.parse_args()
    sizes = arguments.requests, arguments.users, arguments.least, arguments.seeds
    records = [*follow(open_project(LOGS[arguments.log]), *sizes)]
    by_request = summarize(records, MEASURES, "request", "forgotten", "lens")
    publish("deletions", {"By request": by_request}, draw(by_request), digits=4)


if __name__ == "__main__":
    main()
