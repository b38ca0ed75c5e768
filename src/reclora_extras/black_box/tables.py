"""Tables of the black box for the terminal."""

from operator import itemgetter

from rich.console import Group

from reclora_kedro.evaluation import formats
from reclora_kedro.evaluation.records import Records
from reclora_kedro.evaluation.report import results_tables
from reclora_kedro.terminal import text_table


def black_box_tables(metrics: Records, comparisons: Records, trials: Records, usage: Records) -> Group:
    """The trials of the search for hints, what each model's answers took, and the results."""
    options = [name for name in trials[0] if name not in ("trial", "auc", *usage[0])]
    tokens_used = {"calls": (formats.count, "calls"), "prompt tokens": (formats.count, "prompt_tokens")}
    costs = {
        "calls": ("{:,}\nof {:,}".format, "calls", "requests"),
        "retries": (formats.count, "retries"),
        "by text": (formats.count, "by_text"),
        "unread": (formats.count, "unreadable"),
        "tokens": ("{:,}\n+ {:,}".format, "prompt_tokens", "completion_tokens"),
        "price": ("{:.2f}".format, "price"),
    }
    best = max(trials, key=itemgetter("auc"))
    searched = text_table(
        f"Hints on validation rows: those of trial {best['trial']} are taken",
        trials,
        {"trial": (str, "trial")} | {name: (str, name) for name in options},
        {"AUC": (formats.metric, "auc"), **tokens_used},
    )
    answered = text_table(
        "Answers on test rows; calls are those that were not kept from before", usage, {"model": (str, "model")}, costs
    )
    return Group(searched, answered, results_tables(metrics, comparisons, []))
