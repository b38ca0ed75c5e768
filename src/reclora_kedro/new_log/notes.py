"""What a summary of a guess warns of: missing values, items that may be no goods, ids that are nearly the same."""

from itertools import islice, pairwise
from unicodedata import is_normalized, normalize

import polars as pl

from reclora_kedro.ingestion import lexicon
from reclora_kedro.ingestion.column_values import examples, plain, tokens
from reclora_kedro.ingestion.guess import NONE, ROW_NUMBER, AskUser, is_named_time
from reclora_kedro.ingestion.guess_tables import Guess

LEAST_MISSING = 0.001  # share of missing values that is told of
NO_GOODS = lexicon.words_of(
    "postage shipping freight voucher vouchers coupon giftcard fee fees surcharge refund porto versand versandkosten "
    "gutschein envío envio livraison spedizione adjust adjustment"
)
NO_GOODS_PAIRS = frozenset({("gift", "card"), ("gift", "certificate"), ("bad", "debt"), ("service", "charge")})
MOST_WORDS = 4  # of a title that may name postage and the like
MOST_NO_GOODS = 20  # ids that are named


def notes(guess: Guess) -> list[tuple[str, str]]:
    """Return pairs of a label and a sentence, as `environment.description` does, with what to set or do."""
    return [*_missing(guess), *_unread(guess), *_no_goods(guess), *_nearly_equal(guess)]


def _missing(guess: Guess) -> list[tuple[str, str]]:
    log, lines = guess.log, list[tuple[str, str]]()
    kept = {log.rating: "; `ingestion.interactions.rating: null` takes every row for a like instead"}
    for name in [*log.times, log.rating, log.clicked]:
        if name is None or name == ROW_NUMBER:
            continue
        share = log.table.column(name).raw.null_count() / max(log.table.sample.height, 1)
        if share >= LEAST_MISSING:
            text = f"{name}: {share:.1%} of the sample, and ingestion drops such rows{kept.get(name, '')}"
            lines.append(("missing", text))
    return lines


def _unread(guess: Guess) -> list[tuple[str, str]]:
    """Tell of columns that may be the ratings or the time of a log that has neither."""
    log, lines = guess.log, list[tuple[str, str]]()
    for column in log.table.columns:
        if column.name in log.read:
            continue
        shown = f"{column.name} ({examples(column, 2)})"
        is_named = column.words & (lexicon.RATING | lexicon.CLICK) and (column.distinct > 1 or column.raw.null_count())
        if log.kind == "purchases" and is_named:
            text = "every row is a like; if it rates items, see `ingestion.interactions.rating` and `clicked`"
            lines.append(("rating?", f"{shown} is not read: {text}"))
        if log.from_zero and is_named_time(column) and column.is_text:
            text = "see `ingestion.interactions.timestamp_format`, or write 2022-01-31 23:59:00"
            lines.append(("time?", f"{shown} has no known format: {text}"))
    return lines


def no_goods(guess: Guess) -> dict[str, str]:
    """Return ids of items of a log of purchases that may be postage, vouchers and the like, with their titles."""
    log, items = guess.log, guess.items
    if log.kind != "purchases" or log.explode or (items is not None and items.long is not None):
        return {}
    if items is not None and items.title is not None and items.title != items.key:
        named = items.table.sample.select(id=items.key, title=items.title)
    else:
        named = log.table.sample.select(id=log.item, title=log.item)
    rows = named.cast(pl.String).drop_nulls().unique("id", keep="first", maintain_order=True).iter_rows()
    found = {identifier: title for identifier, title in rows if _may_be_no_good(title)}
    return dict(islice(found.items(), MOST_NO_GOODS))


def _may_be_no_good(title: str) -> bool:
    words = [word for word in tokens(title) if not word.isdigit()]
    return len(words) <= MOST_WORDS and bool(NO_GOODS & {*words} or NO_GOODS_PAIRS & {*pairwise(words)})


def ask_of_no_goods(guess: Guess, ask: AskUser) -> list[str]:
    """Return ids of items to exclude from recommendations: those that an answer names of what may be no goods."""
    found = no_goods(guess)
    if not found:
        return []
    shown = "".join(f"\n  {each}" + f": {plain(title)}" * (each != title) for each, title in found.items())
    question = f"Which of these items are no goods, and never recommended? Type ids, with commas.{shown}\n"
    answers = [each.strip() for each in ask(question, [], NONE).split(",")]
    return [each for each in answers if each in found]


def _no_goods(guess: Guess) -> list[tuple[str, str]]:
    found = no_goods(guess)
    shown = ", ".join(each if each == title else f"{each} ({title})" for each, title in found.items())
    advice = "they may be recommended; `recommendation.exclude_items` leaves out what is no good"
    return [("no goods?", f"{shown}: {advice}")] if found else []


def _nearly_equal(guess: Guess) -> list[tuple[str, str]]:
    """Tell of ids with accents that are written in two ways, which are two users or two items."""
    lines = []
    for name in (guess.log.user, guess.log.item):
        ids = {*guess.log.table.column(name).ids}
        twins = sorted(each for each in ids if not is_normalized("NFC", each) and normalize("NFC", each) in ids)
        if twins:
            text = (
                f"{name}: {len(twins)} ids, such as {normalize('NFC', twins[0])}, are written with accents as one "
                "character and as two, and count as two: write the file in one form (NFC)"
            )
            lines.append(("same ids?", text))
    return lines
