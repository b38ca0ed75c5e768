"""Guess the columns of a log: users, items, times, ratings or clicks, and rows that are no interactions."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import polars as pl

from reclora_extras.new_log.columns import (
    CLICK_WORDS,
    ID_WORDS,
    ITEM_WORDS,
    LAST_YEARS,
    LEAST_IN_THEM,
    LIST_WORDS,
    NO_ID_WORDS,
    NO_TIME_WORDS,
    ORDER_WORDS,
    ORDINAL_WORDS,
    PROFILE_WORDS,
    QUANTITY_WORDS,
    RATING_WORDS,
    TIME_FORMATS,
    TIME_WORDS,
    USER_WORDS,
    Column,
    are_plausible,
    examples,
    has_clock,
    id_likelihood,
    mean,
    seconds_by,
    tokens,
    words_of,
)
from reclora_extras.new_log.files import RawFile, UnreadableFileError
from reclora_kedro.ingestion.raw_tables import WRITTEN_LISTS, RawColumns

AskUser = Callable[[str, Sequence[str], str], str]
"""Asks a question: its text, the possible answers, and the guess."""

ROW_NUMBER = "place"
"""Name of the column that numbers the rows of a log without times."""

YES = "yes"
NONE = "none"
"""Answer to the question for a column that there may not be."""
SCALES = ((1, 5), (0.5, 5), (0, 5), (1, 7), (1, 10), (0, 10), (1, 20), (0, 100), (-10, 10))
SHOWN = r"\S+-[01]"
IMPRESSIONS = rf"^{SHOWN}( {SHOWN})*$"
EVENTS = words_of(
    "view click purchase purchased buy bought pv cart fav favorite play played listen watch watched add addtocart "
    "order transaction ordered sale checkout like share download install impression detail visit read rent"
)
UNDONE = words_of(
    "return returned refund refunded voided cancel cancelled canceled remove removed delete deleted unlike dislike"
)
NOBODY = words_of("0 -1 guest anonymous unknown")
LEAST_SHOWN = 0.2  # share of the items of a click history that lists of impressions must show, too
CLOCK_WORDS = words_of("time hour hourmin hours clock minute tod")
CLOCKS = ("%H:%M:%S", "%H:%M", "%I:%M:%S %p", "%I:%M %p", "%H%M%S", "%H%M")
MARKS = [{"0", "1"}, {"0.0", "1.0"}, {"false", "true"}, {"no", "yes"}]
NO_RATING_WORDS = USER_WORDS | ITEM_WORDS | ID_WORDS | NO_ID_WORDS | TIME_WORDS | NO_TIME_WORDS | CLOCK_WORDS
NO_RATING_WORDS |= ORDINAL_WORDS | QUANTITY_WORDS | ORDER_WORDS | PROFILE_WORDS | LIST_WORDS
MOST_RATING_VALUES = 21  # distinct values, at most, of what is a rating rather than an id in a file without names
MOSTLY = 0.95  # share of the rows that have a time where others have none


@dataclass(frozen=True)
class Log:
    """The log, and the meaning of its columns.

    Args:
        kind: ratings, purchases (positives only of any kind), or impressions.
        times: columns of the time; row numbers if there are none.
        time_format: `timestamp_format` of ingestion.
        from_zero: whether times count from the log's beginning instead of 1970.
        likes: share of likes in the sample of a log of ratings.
        drop: rules of ingestion's `drop`, by column.
        unknown_users: ids that stand for nobody.
    """

    file: RawFile
    user: str
    item: str
    times: list[str]
    time_format: str
    from_zero: bool
    kind: str = "purchases"
    rating: str | None = None
    scale: tuple[float, float] = (1, 5)
    threshold: float = 4
    likes: float = 1
    clicked: str | None = None
    impressions: dict[str, str] | None = None
    click_history: dict[str, str] | None = None
    explode: list[str] = field(default_factory=list)
    explode_separator: str | None = None
    drop: dict[str, Any] = field(default_factory=dict)
    unknown_users: list[str] = field(default_factory=list)


def likeliest_id(columns: Iterable[Column], words: frozenset[str]) -> Column | None:
    """Return the column whose name fits the id of an entity best, if any."""
    return max(
        (column for column in columns if id_likelihood(column, words)),
        key=lambda column: id_likelihood(column, words),
        default=None,
    )


def repeated_ids(file: RawFile) -> int:
    """Return how many columns hold ids that occur repeatedly in a sample, as a log's do."""
    return sum(
        MOST_RATING_VALUES < column.distinct < 0.9 * file.sample.height for column in file.columns if column.is_id
    )


def read_log(file: RawFile, linked: Mapping[frozenset[str], Column], ask: AskUser) -> Log:
    """Guess the meaning of a log's columns.

    Args:
        linked: columns whose ids other tables describe, by `USER_WORDS` and `ITEM_WORDS`.
        ask: called where two answers are equally likely.

    Raises:
        UnreadableFileError: there is no column of users, or none of items, or some times or ratings are none.
    """
    columns = file.columns
    slates = next((column for column in columns if is_list_of_impressions(column)), None)
    times, time_format, from_zero = _times([column for column in columns if column is not slates], file, ask)
    left = [column for column in columns if column.name not in times]
    user = linked.get(USER_WORDS) or likeliest_id(left, USER_WORDS)
    item = slates or linked.get(ITEM_WORDS) or likeliest_id(left, ITEM_WORDS)
    if user is None or item is None:
        user, item = _ids_by_values(file, left, (user, item), ask)
    left = [column for column in left if column.name not in (user.name, item.name)]
    meaning: dict[str, Any] = {}
    if slates is not None:
        meaning = _impressions(left, slates)
    elif (rating := _named_rating(left, file) if file.has_names else _rating_by_values(left, file, ask)) is not None:
        meaning = _scale_of(rating)
    elif (clicked := _clicked(left, file, ask)) is not None:
        meaning = {"kind": "impressions", "clicked": clicked.name}
    elif file.has_names and (rating := _rating_by_values(left, file, ask)) is not None:
        meaning = _scale_of(rating)
    elif item.is_list or item.separator == WRITTEN_LISTS:
        meaning = {"explode": [item.name], "explode_separator": None if item.is_list else WRITTEN_LISTS}
    meaning["drop"] = meaning.get("drop", {}) | _unwanted(left, ask)
    return Log(file, user.name, item.name, times, time_format, from_zero, unknown_users=_nobody(user), **meaning)


def is_list_of_impressions(column: Column) -> bool:
    """Whether a column lists what was shown at once, and whether it was clicked."""
    lists = column.text.head(100)
    return bool(len(lists)) and bool(lists.str.contains(IMPRESSIONS).all()) and bool(lists.str.contains(" ").any())


def _impressions(left: list[Column], slates: Column) -> dict[str, Any]:
    history = next((column.name for column in left if _is_click_history(column, slates)), None)
    return {
        "kind": "impressions",
        "impressions": {"separator": " ", "clicked": "-1", "not_clicked": "-0"},
        "click_history": {"column": history, "separator": " "} if history else None,
    }


def _is_click_history(column: Column, slates: Column) -> bool:
    """Whether a column lists items clicked before, of which many are among those that lists of impressions show."""
    if column.raw.dtype.is_nested() or not column.text.str.contains(" ").any():
        return False
    shown = slates.text.str.extract_all(SHOWN).explode().str.replace(r"-[01]$", "").unique()
    return mean(column.text.str.split(" ").explode().unique().is_in(shown.implode())) >= LEAST_SHOWN


def _times(columns: list[Column], file: RawFile, ask: AskUser) -> tuple[list[str], str, bool]:
    """Return columns of the time, their format, and whether they count from the log's beginning."""
    named = [column for column in columns if is_named_time(column) or not file.has_names]
    dates = [column for column in columns if column.numbers is None and not column.words & NO_TIME_WORDS]
    told = [column for column in named if column.seconds_format is not None]
    if not told and file.has_names:
        _refuse_odd_times(named, file)
    told = told or [column for column in dates if column.seconds_format is not None]
    if told:
        best = max(told, key=_likelihood_of_a_time)  # the first one of several
        time_format = _day_or_month_first(best, ask)
        if not has_clock(time_format) and (more := _with_clock(best, time_format, columns)) is not None:
            return [best.name, more[0]], more[1], False
        return [best.name], time_format, False
    ordinal = [column for column in columns if column.words & ORDINAL_WORDS and column.is_whole and column.distinct > 2]
    counted = [column for column in ordinal if not _is_id_by_name(column) and column.bounds[0] >= 1]
    return ([counted[0].name] if counted else [ROW_NUMBER]), "unix_seconds", True


def _likelihood_of_a_time(column: Column) -> tuple[bool, bool]:
    return len(column.values) > MOSTLY * len(column.raw), has_clock(column.seconds_format or "")


def is_named_time(column: Column) -> bool:
    return column.raw.dtype.is_temporal() or bool(column.words & TIME_WORDS and not column.words & NO_TIME_WORDS)


def _refuse_odd_times(columns: list[Column], file: RawFile) -> None:
    """Refuse a column of times of which some are none."""
    for column in columns:
        some = column.text.unique(maintain_order=True).head(20)
        for each in TIME_FORMATS:
            if mean(are_plausible(some, each)) > 0.5:
                _refuse_odd(column, are_plausible(column.text, each), f"times of the format {each}", file)
        numbers = column.text.filter(_are_numbers(column.text))
        if Column(column.name, numbers).time_formats:
            _refuse_odd(column, _are_numbers(column.text), "times as numbers", file)


def _refuse_odd(column: Column, fitting: pl.Series, what: str, file: RawFile) -> None:
    """Refuse a column most of whose values are what its name says, and some are not."""
    if 0.5 < mean(fitting) < 1:
        raise UnreadableFileError(
            f"Column {column.name!r} of {file.path} seems to hold {what}, but {(~fitting).sum():,} of {len(fitting):,} "
            f"values are none, the first of them {column.text.filter(~fitting)[0]!r}: correct these, leave missing "
            "ones empty, or rename the column if it holds something else."
        )


def _are_numbers(text: pl.Series) -> pl.Series:
    return text.cast(pl.Float64, strict=False).is_not_null()


def _is_id_by_name(column: Column) -> bool:
    return max(id_likelihood(column, words) for words in (USER_WORDS, ITEM_WORDS)) > 0


def _day_or_month_first(column: Column, ask: AskUser) -> str:
    guess = column.seconds_format
    assert guess is not None
    formats = column.time_formats
    if len(formats) < 2:
        return guess
    some = column.text.unique(maintain_order=True).head(3)
    read = {
        each: ", ".join(f"{datetime.fromtimestamp(second, UTC):%-d %B %Y}" for second in seconds_by(some, each))
        for each in formats
    }
    shown = "".join(f"\n  {each}: {days}" for each, days in read.items())
    return ask(f"Column {column.name!r} has {examples(column, 3)}: which format?{shown}\n", formats, guess)


def _with_clock(day: Column, day_format: str, columns: list[Column]) -> tuple[str, str] | None:
    """Return the column of the time of day that belongs to a column of days, and their joint format."""
    for column in columns:
        if column is day or not column.words & CLOCK_WORDS:
            continue
        frame = RawColumns(pl.DataFrame([day.raw, column.raw]).drop_nulls(), "sample")
        for clock in CLOCKS:
            time_format = f"{'%Y-%m-%d' if day.raw.dtype.is_temporal() else day_format} {clock}"
            try:
                seconds = frame.seconds([day.name, column.name], "timestamp", time_format, "timestamp_format")
            except (ValueError, pl.exceptions.PolarsError):
                continue
            if mean(seconds.is_between(*LAST_YEARS)) >= LEAST_IN_THEM:
                return column.name, time_format
    return None


def _ids_by_values(
    file: RawFile, left: list[Column], named: tuple[Column | None, Column | None], ask: AskUser
) -> tuple[Column, Column]:
    """Return the columns of users and items where neither names nor other tables tell them: by values and position."""
    user, item = named
    others = [column for column in left if not (_is_rating(column) or _is_event(column) or is_mark(column))]
    others = [column for column in others if not (is_named_time(column) and column.seconds_format)]
    rest = [column for column in others if column.distinct > 1]
    ids = [column for column in rest if column.is_id or column.is_code]
    texts = [column for column in rest if column.is_text and not (column.is_id or column.is_code)]
    repeated, names = ([each for each in some if each.distinct < len(each.values)] for some in (ids, texts))
    names = names if file.has_names else []  # texts that may be names of people, though most are titles
    if user is None:
        free = [each for each in repeated if each is not item]  # others name rows
        user = _first_of(free and [*free, *(each for each in names if each is not item)], "users", file, ask)
    if item is None:
        free = [each for each in repeated if each is not user] or [each for each in ids if each is not user]
        free += [each for each in (names if free else texts) if each is not user]
        item = _first_of(free, "items", file, ask)
    return user, item


def _first_of(candidates: list[Column], what: str, file: RawFile, ask: AskUser) -> Column:
    if not candidates:
        raise UnreadableFileError(
            f"{file.path} has no column that looks like ids of {what}, only {', '.join(file.sample.columns)}. "
            f"{_unpacked(file)}Name one user_id or item_id, or write the environment by hand, as "
            "docs/guides/swap-data.md tells."
        )
    names = [column.name for column in candidates]
    question = f"Which column of {file.path.name} has the ids of {what}?{_shown(candidates)}\n"
    chosen = ask(question, names, names[0]) if names[1:] else names[0]
    return candidates[names.index(chosen)]


def _unpacked(file: RawFile) -> str:
    """Return what to do about columns of records, such as a customer with an id or the items of an event; else ""."""
    kinds = file.sample.schema.items()
    records = [name for name, kind in kinds if isinstance(kind, pl.Struct)]
    lists = [name for name, kind in kinds if isinstance(kind, pl.List) and isinstance(kind.inner, pl.Struct)]
    if not (records or lists):
        return ""
    reader = {"ndjson": "read_ndjson", "json": "read_json"}.get(file.format, "read_parquet")
    steps = "".join(f".explode({name!r})" for name in lists)
    steps += "".join(f".unnest({name!r}, separator='_')" for name in [*records, *lists])
    return (
        f"{', '.join([*records, *lists])} {'hold' if records[1:] or lists[1:] or (records and lists) else 'holds'} "
        f"records, whose fields are no columns yet: write them as such by polars, `pl.{reader}({file.path.name!r})"
        f"{steps}.write_parquet('{file.path.stem}-flat.parquet')`, and give the command that file. "
    )


def _is_rating(column: Column) -> bool:
    """Whether the few numbers of a column end where a scale of ratings does."""
    if column.numbers is None or not 2 < column.distinct <= MOST_RATING_VALUES:
        return False
    return column.bounds[0] >= -1 and column.bounds[1] in {high for _, high in SCALES}


def may_be_rating(column: Column) -> bool:
    """Whether values look like ratings, and the column's name tells nothing, such as one in another language."""
    return _is_rating(column) and not column.words & NO_RATING_WORDS


def _named_rating(columns: list[Column], file: RawFile) -> Column | None:
    """Return the column with the plainest name of ratings, such as "rating" rather than "average_rating"."""
    named = [each for each in columns if each.words & RATING_WORDS and each.distinct > 1 and not is_mark(each)]
    ratings = [column for column in named if column.numbers is not None]
    if not ratings:
        for column in named:
            _refuse_odd(column, _are_numbers(column.text), "ratings", file)
    return min(ratings, key=lambda column: len(column.words), default=None)


def _rating_by_values(columns: list[Column], file: RawFile, ask: AskUser) -> Column | None:
    """Return the only column that looks like ratings in a file without names, or that of an answer, if any."""
    candidates = [each for each in columns if (may_be_rating(each) if file.has_names else _is_rating(each))]
    if not candidates or (len(candidates) == 1 and not file.has_names):
        return next(iter(candidates), None)
    names = [column.name for column in candidates]
    question = f"Which column of {file.path.name} has the ratings, if any?{_shown(candidates)}\n"
    chosen = ask(question, [*names, NONE], NONE if file.has_names else names[0])
    return None if chosen == NONE else candidates[names.index(chosen)]


def _shown(columns: list[Column]) -> str:
    return "".join(f"\n  {column.name}: {examples(column, 3)}" for column in columns)


def _scale_of(rating: Column) -> dict[str, Any]:
    """Return the rating scale, the rating from which a row is a like, and values that are no ratings."""
    assert rating.numbers is not None
    counts = Counter(rating.numbers.tolist())
    is_no_rating = -1 in counts and len(counts) > 2 and sorted(counts)[1] >= 0 and max(counts) > 1
    dropped = [-1] if is_no_rating else []
    is_whole = all(value % 1 == 0 for value in counts)
    lowest = max(counts.get(1, 0), counts.get(2, 0))
    if len(counts) - len(dropped) > 2 and is_whole and max(counts) > 2 and counts.get(0, 0) > 2 * lowest:
        dropped.append(0)  # far more frequent than the lowest ones: no rating was given
    rated = {value: count for value, count in counts.items() if value not in dropped}
    low, high = min(rated), max(rated)
    fitting = [scale for scale in (*SCALES, (-1, 1), (0, 1)) if scale[0] <= low and high <= scale[1]]
    halves = [scale for scale in fitting if is_whole == (scale[0] != 0.5)] or fitting
    scale = min(halves, key=lambda each: (each[1] - high, low - each[0]), default=(low, high))
    step = 1 if is_whole else 0.5
    threshold = -(-(scale[0] + 0.75 * (scale[1] - scale[0])) // step) * step
    rows = sum(rated.values())

    def share(least: float) -> float:
        return sum(count for value, count in rated.items() if value >= least) / rows

    if not 0.1 <= share(threshold) <= 0.9 and len(rated) > 1:
        threshold = min(sorted(rated)[1:], key=lambda value: abs(share(value) - 0.5))
    return {
        "kind": "ratings",
        "rating": rating.name,
        "scale": scale,
        "threshold": threshold,
        "likes": share(threshold),
        "drop": {rating.name: dropped} if dropped else {},
    }


def _clicked(columns: list[Column], file: RawFile, ask: AskUser) -> Column | None:
    """Return a column of both 0 and 1 whose name is that of a click or rating, or that an answer says has clicks."""
    marks = [column for column in columns if is_mark(column)]
    if file.has_names:
        named = [column for column in marks if column.words & (CLICK_WORDS | RATING_WORDS)]
        return min(named, key=lambda column: not column.words & {"click", "clicked", "clicks"}, default=None)
    for column in marks:
        no, yes = sorted(column.text.str.to_lowercase().unique())
        share = f"{mean(column.text.str.to_lowercase() == yes):.1%} are {yes}"
        question = f"Column {column.name} of {file.path.name} has {no} and {yes} ({share}): is {yes} a click?"
        if ask(question, [YES, "no"], YES) == YES:
            return column
    return None


def is_mark(column: Column) -> bool:
    """Whether the values are 0 and 1, or two words for them."""
    return {*column.text.str.to_lowercase().unique()} in MARKS


def _is_event(column: Column) -> bool:
    if not column.is_text or column.distinct > 12:
        return False
    words = {word for value in column.text.unique() for word in tokens(value)}
    return bool(words & (EVENTS | UNDONE))


def _unwanted(columns: list[Column], ask: AskUser) -> dict[str, Any]:
    """Return rules for rows that are no interactions: returns, cancelled orders, quantities below one."""
    drop = dict[str, Any]()
    for column in columns:
        if _is_event(column):
            drop |= _unwanted_events(column, ask)
        elif column.words & QUANTITY_WORDS and column.numbers is not None and column.bounds[0] <= 0:
            drop[column.name] = {"at_most": 0}
        elif column.words & QUANTITY_WORDS and column.text.str.contains(r"^-\d").any():  # beside "1,000" or the like
            drop[column.name] = {"values": ["0"], "starts_with": ["-"]}
        elif column.words & ORDER_WORDS and mean(column.text.str.contains(r"^\d+$")) > 0.5:
            prefixes = column.text.str.extract(r"^([A-Za-z]+)\d+$").drop_nulls().unique().sort().to_list()
            drop |= {column.name: {"starts_with": prefixes}} if prefixes else {}
    return drop


def _unwanted_events(column: Column, ask: AskUser) -> dict[str, list[str]]:
    values = column.text.value_counts(sort=True)[column.name].to_list()
    wanted = [value for value in values if not set(tokens(value)) & UNDONE]
    if len(values) > 1:
        rows = dict(column.text.value_counts().iter_rows())
        counts = ", ".join(f"{value} {rows[value] / len(column.text):.1%}" for value in values)
        question = f"Which values of {column.name!r} are interactions (of the sample: {counts})? Several: with commas."
        answer = ask(question, [], ",".join(wanted))
        wanted = [value.strip() for value in answer.split(",")]
    dropped = [value for value in values if value not in wanted]
    return {column.name: dropped} if dropped else {}


def _nobody(user: Column) -> list[str]:
    """Return ids of users with a large part of the log whose names stand for nobody, such as guests."""
    counts = user.text.value_counts(sort=True).head(3).rows()
    return [value for value, count in counts if count > 0.1 * len(user.text) and value.lower() in NOBODY]
