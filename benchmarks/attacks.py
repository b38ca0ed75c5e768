"""What updates make of attacks and of clocks that are wrong: nights one after another, each with false rows.

    make bench-attacks
    python benchmarks/attacks.py --env movietweetings --nights 10

A lens learns from the first 70% of the log in one pass. Each of two nights, and of ten for attacks that are slow, an
update takes in its part of the next 10%, and the rows of an attack; the last 20%, which are as they were, tell what the
lens in use is worth afterwards. Nobody accepts or rejects anything. `docs/results/faults.md` has the tables.
"""

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from lifelong import Tables, read_tables
from results import markdown
from running import Project, open_project
from sklearn.metrics import roc_auc_score

from reclora_kedro.datasets.journal import SCHEMA
from reclora_kedro.datasets.newest_versions import WITHHELD
from reclora_kedro.distributed.engine import LOCAL
from reclora_kedro.history.fields import describe_items
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.log_builder import Growth, build_log
from reclora_kedro.ingestion.events import EVENT_KEY
from reclora_kedro.lens.base import Lens
from reclora_kedro.lens.growth import grow_lens
from reclora_kedro.lens.states import LensReader
from reclora_kedro.lens.training import fit_lens
from reclora_kedro.llm.item_vectors import embed_items
from reclora_kedro.pipelines.update import nodes

FIRST, LAST = 0.7, 0.8  # shares of the log: until the first update, and until the test
YEAR = 365 * 86_400
FAKE = 10**9  # ids of fake users begin here
NO_JOURNAL = pl.DataFrame(schema=SCHEMA)


class Used(NamedTuple):
    """What is in use after an update."""

    interactions: pl.DataFrame
    log: InteractionLog
    vectors: Mapping[str, np.ndarray]
    lens: Lens


def false_rows(night: pl.DataFrame, users: int, rows: int, seed: int) -> pl.DataFrame:
    """Rows of fake users on one day of a night, who rate the night's items as nobody does."""
    random = np.random.default_rng(seed)
    likes = night.group_by("item_id").agg(liked=pl.col("label").mean())
    drawn = night.select("item_id").sample(rows, seed=seed, with_replacement=True).join(likes, on="item_id")
    middle = night["timestamp"].to_numpy()[night.height // 2] // 86_400 * 86_400
    drawn = drawn.with_columns(timestamp=pl.Series(middle + random.integers(86_400, size=rows)))
    liked = pl.Series("label", drawn["liked"].to_numpy() < random.uniform(size=rows))
    ids = pl.Series("user_id", FAKE + random.integers(users, size=rows) + 1000 * seed)
    rated = drawn.with_columns(ids, rating=pl.when(liked).then(5.0).otherwise(1.0), label=liked.cast(pl.Int8))
    return rated.select(night.columns).cast(night.schema).unique(EVENT_KEY)


def turned(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(rating=6 - pl.col("rating"), label=1 - pl.col("label"))


def bot(night: pl.DataFrame, number: int, known: pl.DataFrame) -> pl.DataFrame:
    """The night, with 20,000 rows of one user."""
    rows = false_rows(night, 1, 20_000, number)
    return pl.concat([night, rows])


def fakes(users: int, rows: int) -> "Attack":
    return lambda night, number, known: pl.concat([night, false_rows(night, users, rows, number)])


def votes(night: pl.DataFrame, users: Iterable[int], items: list[Any], liked: int) -> pl.DataFrame:
    """The night, and the same vote of fake users for each of some items, in its last second."""
    voters = pl.DataFrame({"user_id": [FAKE + user for user in users]})
    rows = voters.join(pl.DataFrame({"item_id": items}), how="cross")
    rows = rows.with_columns(rating=1.0 + 4 * liked, timestamp=night["timestamp"].max(), label=liked)
    return pl.concat([night, rows.select(night.columns).cast(night.schema)])


def lift_after_a_night(night: pl.DataFrame, number: int, known: pl.DataFrame) -> pl.DataFrame:
    """The night, with 120 fake users who like rare items at first, and from then on the one with the fewest rows."""
    counts = known["item_id"].value_counts(sort=True)["item_id"].to_list()
    return votes(night, range(120), counts[-6:-1] if number == 0 else counts[-1:], 1)


def pull(night: pl.DataFrame, number: int, known: pl.DataFrame) -> pl.DataFrame:
    """The night, with 19 fakes who dislike the item with most rows, other ones each night."""
    counts = known["item_id"].value_counts(sort=True)["item_id"].to_list()
    return votes(night, range(19 * number, 19 * number + 19), counts[:1], 0)


def to_likes(night: pl.DataFrame, number: int, known: pl.DataFrame) -> pl.DataFrame:
    """The night, and 751 known dislikes of the latest ones with a higher rating."""
    dislikes = known.filter(pl.col("label") == 0).tail(751)
    return pl.concat([night, dislikes.with_columns(rating=5.0, label=pl.lit(1, known.schema["label"]))])


def corrections(night: pl.DataFrame, number: int, known: pl.DataFrame) -> pl.DataFrame:
    """The night, and 60 known ratings that their users correct, up or down."""
    return pl.concat([night, turned(known.tail(5000).sample(60, seed=number))])


def drift(night: pl.DataFrame, number: int, known: pl.DataFrame) -> pl.DataFrame:
    """The night, by which another thirtieth of all users has changed tastes for good: honest, and not to be refused."""
    has_changed = pl.col("user_id").hash(seed=0) % 30 <= number
    return pl.concat([night.filter(~has_changed), turned(night.filter(has_changed))])


def known_accounts(night: pl.DataFrame, number: int, known: pl.DataFrame) -> pl.DataFrame:
    """The night, and rows of four known users against their tastes."""
    users = known["user_id"].value_counts(sort=True)["user_id"].head(4)
    rows = turned(false_rows(night, 4, 2000, number))
    accounts = users.gather(rows["user_id"].to_numpy() % 4)
    return pl.concat([night, rows.with_columns(accounts).unique(EVENT_KEY)])


def lift(night: pl.DataFrame, number: int, known: pl.DataFrame) -> pl.DataFrame:
    """The night, with 300 fake users who like the item with the fewest rows, and two popular ones."""
    counts = night["item_id"].value_counts(sort=True)["item_id"]
    items = [counts[-1], counts[0], counts[1]]
    rows = pl.DataFrame({"user_id": np.repeat(np.arange(300), 3) + FAKE + 1000 * number, "item_id": items * 300})
    second = night["timestamp"].max()
    liked = rows.with_columns(rating=5.0, timestamp=second, label=1).select(night.columns).cast(night.schema)
    return pl.concat([night, liked])


def in_the_future(night: pl.DataFrame, number: int, known: pl.DataFrame) -> pl.DataFrame:
    """The night, of whose rows 200 are a year ahead of the others."""
    ahead = night.sample(200, seed=number).with_columns(pl.col("timestamp") + YEAR)
    return pl.concat([night, ahead])


def half_turned(night: pl.DataFrame, number: int, known: pl.DataFrame) -> pl.DataFrame:
    """A first night with fake users, and a second one whose labels are all inverted."""
    return fakes(60, 1800)(night, number, known) if number == 0 else turned(night)


Attack = Callable[[pl.DataFrame, int, pl.DataFrame], pl.DataFrame]
"""Function from the rows of a night, its number and the rows before it to what an update is given."""
ATTACKS: dict[str, Attack] = {
    "none": lambda night, number, known: night,
    "all labels inverted": lambda night, number, known: turned(night),
    "one user with 20,000 rows": bot,
    "60 fake users, 1,800 rows": fakes(60, 1800),
    "500 fake users, 15,000 rows": fakes(500, 15_000),
    "60 fake users, then all inverted": half_turned,
    "300 fake users lift an item": lift,
    "200 rows a year ahead": in_the_future,
    "751 known dislikes become likes": to_likes,
    "60 honest corrections": corrections,
    "a thirtieth of users a night changes tastes": drift,
    "4 known accounts against their tastes": known_accounts,
    "120 fake users wait a night, then lift an item": lift_after_a_night,
    "19 fake users a night pull an item": pull,
}


SLOW = (  # which do little each night
    *("none", "all labels inverted", "751 known dislikes become likes", "60 honest corrections"),
    *("a thirtieth of users a night changes tastes", "4 known accounts against their tastes"),
    *("120 fake users wait a night, then lift an item", "19 fake users a night pull an item"),
)
"""The attacks that also have a form of ten nights."""


def updated(
    used: Used, first: Used, rows: pl.DataFrame, project: Project, encoders: list[Any]
) -> tuple[Used, Any, Any, Any]:
    """Update what is in use; return what is now, what was kept out, the decision, and the report."""
    settings = project.parameters
    history, update, config = settings["history"], settings["update"], settings["ingestion"]
    new = rows.sort("timestamp", "user_id").with_columns(source=pl.lit("journal"))
    interactions, out, report = nodes.append_interactions(
        new, used.interactions.lazy(), pl.DataFrame(schema=WITHHELD), used.log, first.log,
        config, history, update["examination"], False, (), used.lens, first.lens,
    )  # fmt: skip
    entities = interactions, used.log.items, used.log.users, None, None, None, NO_JOURNAL
    items, users, _ = nodes.append_entities(*entities, config)
    grown, _ = nodes.build_grown_log(interactions, items, users, used.log, history, config, LOCAL)
    vectors, log = nodes.embed_new_items(grown, used.log, used.vectors, history, LOCAL, *encoders)
    challenger, _ = nodes.train_challenger(used.lens, log, used.log, update["lens"], LOCAL)
    lens, decision = nodes.promote(
        used.lens, challenger, first.lens, log, used.log, first.log, update["promotion"], settings["bootstrap"], False
    )
    return Used(interactions.collect(), log, vectors, lens), out, decision, report


def auc_later(used: Used, tables: Tables, later: pl.DataFrame, project: Project, encoders: list[Any]) -> float:
    """AUC of what is in use on the log's last rows."""
    history, config = project.parameters["history"], project.parameters["ingestion"]
    begin = int(later["timestamp"].to_numpy().min())  # rows ahead of them would be test rows, too
    rows = pl.concat([used.interactions.filter(pl.col("timestamp") < begin), later]).lazy()
    items, users, _ = nodes.append_entities(rows, used.log.items, used.log.users, None, None, None, NO_JOURNAL, config)
    log = build_log(rows, items, users, history, growth=Growth(used.log.sequences, begin, begin))
    _, log = nodes.embed_new_items(log, used.log, used.vectors, history, LOCAL, *encoders)
    samples = log.samples_in("test")
    return float(roc_auc_score(samples["label"], LensReader(grow_lens(used.lens, log), log).logits(samples)))


def nights(
    name: str, count: int, first: Used, tables: Tables, project: Project, encoders: list[Any]
) -> Iterator[dict[str, Any]]:
    """Yield what became of each night of an attack."""
    seconds = tables.interactions["timestamp"].to_numpy()
    bounds = [int(seconds[int(share * len(seconds))]) for share in np.linspace(FIRST, LAST, count + 1)]
    later = tables.interactions.filter(pl.col("timestamp") >= int(seconds[int(LAST * len(seconds))]))
    used = first
    for night, (begin, end) in enumerate(pairwise(bounds)):
        honest = tables.interactions.filter(pl.col("timestamp").is_between(begin, end - 1))
        rows = ATTACKS[name](honest, night, used.interactions)
        used, out, decision, report = updated(used, first, rows, project, encoders)
        kept_out = out.join(honest, on=[*EVENT_KEY, "label"], how="semi").height
        yield {
            "attack": name,
            "night": night + 1,
            "false rows": rows.join(honest, on=[*EVENT_KEY, "label"], how="anti").height,
            "kept out": out.height - kept_out,
            "honest rows": rows.join(honest, on=[*EVENT_KEY, "label"], how="semi").height,
            "of these kept out": kept_out,
            "chosen": decision["chosen"],
            "named items": sum(record["check"].startswith("interactions of the item") for record in report),
            "AUC in use": auc_later(used, tables, later, project, encoders),
        }


def main() -> None:
    """Print what became of each attack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="base", help="environment whose data are used")
    parser.add_argument("--attacks", nargs="*", default=[*ATTACKS], choices=[*ATTACKS], help="which of them")
    parser.add_argument("--nights", type=int, help="number of updates; without it, two, and ten for slow attacks")
    arguments = parser.parse_args()
    project = open_project(arguments.env)
    tables, history = read_tables(project), project.parameters["history"]
    seconds = tables.interactions["timestamp"].to_numpy()
    known = tables.until(int(seconds[int(FIRST * len(seconds))]))
    encoders = [project.load(name) for name in history.item_embedding.with_input]
    named = dict(zip(history.item_embedding.with_input, encoders, strict=True))
    vectors = embed_items(describe_items(known.items), history.item_embedding, named, history.seed, LOCAL)
    log = build_log(*known, history)
    assert isinstance(log, InteractionLog)
    log = log.with_embeddings(vectors["embeddings"], vectors["encoder_widths"])
    lens, _ = fit_lens(log, project.parameters["lens"].model_copy(update={"max_epochs": 1}))
    first = Used(known.interactions, log, vectors, lens)
    inputs, slow = (first, tables, project, encoders), [name for name in arguments.attacks if name in SLOW]
    forms = [(arguments.attacks, arguments.nights)] if arguments.nights else [(arguments.attacks, 2), (slow, 10)]
    for names, count in forms:
        print(markdown([night for name in names for night in nights(name, count, *inputs)], digits=3), flush=True)


if __name__ == "__main__":
    main()
