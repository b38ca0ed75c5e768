"""What a column of a raw table holds, by the values of a sample and by words in its name."""

import re
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product

import numpy as np
import polars as pl

from reclora_kedro.ingestion import lexicon
from reclora_kedro.ingestion.raw_tables import UNIX_UNITS, WRITTEN_LISTS, RawColumns


def mean(values: pl.Series) -> float:
    """Return the mean of numbers, or the share of true values; 0 for none."""
    known = values.drop_nulls().to_numpy()
    return float(known.mean()) if len(known) else 0.0


SHOWN = r"\S+-[01]"  # an item of a list of impressions
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
LONGEST_EXAMPLE = 32  # characters that are shown of a value
LAST_YEARS = (631_152_000, 4_102_444_800)  # seconds from 1990 to 2099 that are believed in a sample
LEAST_IN_THEM = 0.99  # share of the times of a sample that lie there, as `ingestion.plausible_times.max_outside` has it

DATES = (
    *(f"%Y{mark}%m{mark}%d" for mark in ("-", "/", ".", "")),
    *(f"{first}{mark}{year}" for mark in "/.-" for first in (f"%m{mark}%d", f"%d{mark}%m") for year in ("%Y", "%y")),
    *("%d-%b-%Y", "%d %b %Y", "%b %d, %Y", "%d %B %Y", "%B %d, %Y", "%m %d, %Y"),
)
CLOCKS = ("%H:%M:%S", "%H:%M", "%H:%M:%S%.f", "%I:%M:%S %p", "%I:%M %p", "%H%M%S", "%H%M")
TIME_FORMATS = (
    *DATES,
    *(f"{day}{joint}{clock}" for day, joint, clock in product(DATES, (" ", "T"), CLOCKS[:5])),
    *(
        f"%Y-%m-%d{joint}{clock}{zone}"
        for joint, clock, zone in product(" T", ("%H:%M:%S", "%H:%M:%S%.f"), ("%z", " %z"))
    ),
    *("%Y%m%d%H%M%S", "%Y%m%d%H%M", "%a %b %d %H:%M:%S %z %Y"),
)


def tokens(name: str) -> list[str]:
    """Return the words of a column's name, in lower case.

    Examples:
        >>> tokens("CustomerID"), tokens("visitorid"), tokens("t_dat"), tokens("Book-Rating")
        (['customer', 'id'], ['visitor', 'id'], ['t', 'dat'], ['book', 'rating'])
    """
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    words = list[str]()
    for word in re.split(r"[\W_]+", spaced.lower()):
        stem = re.sub(r"(ids?|nr|nummer)$", "", word)
        known = stem != word and stem in lexicon.USER | lexicon.ITEM | lexicon.ORDER | {"category"}
        words += [stem, "id"] if known else [word] if word else []
    return words


@dataclass(frozen=True, eq=False)
class Column:
    """A column of a sample."""

    name: str
    raw: pl.Series

    @cached_property
    def words(self) -> set[str]:
        return set(tokens(self.name))

    @cached_property
    def values(self) -> pl.Series:
        """Values that are not missing."""
        return self.raw.drop_nulls()

    @cached_property
    def is_list(self) -> bool:
        """Whether the values are lists of plain values."""
        inner = self.raw.dtype.inner if isinstance(self.raw.dtype, pl.List) else None
        return inner is not None and not (inner.is_nested() or inner in (pl.Binary, pl.Duration))

    @cached_property
    def text(self) -> pl.Series:
        """Values as texts; empty for a nested column, and for one of what is no text, such as pictures."""
        if not self.raw.dtype.is_nested():
            with suppress(pl.exceptions.PolarsError):
                return self.values.cast(pl.String)
        return pl.Series(self.name, dtype=pl.String)

    @cached_property
    def distinct(self) -> int:
        return self.text.n_unique()

    @cached_property
    def numbers(self) -> np.ndarray | None:
        """Values as numbers; None if one is no number, or texts such as 12e4 are more likely ids."""
        if self.raw.dtype == pl.String and self.text.str.contains(r"^\d+[eE]").any():
            return None
        numbers = self.text.cast(pl.Float64, strict=False)
        return numbers.to_numpy() if len(numbers) and numbers.is_finite().fill_null(False).all() else None

    @cached_property
    def bounds(self) -> tuple[float, float]:
        """The lowest and the highest number of a column of numbers."""
        assert self.numbers is not None
        return float(self.numbers.min()), float(self.numbers.max())

    @cached_property
    def mean_length(self) -> float:
        """Mean number of characters."""
        return mean(self.text.str.len_chars())

    @cached_property
    def is_whole(self) -> bool:
        """Whether all values are integers without leading zeros."""
        return self._all_match(r"^(-?[1-9]\d{0,17}|0)$")

    @cached_property
    def is_whole_float(self) -> bool:
        """Whether all values are integers written with a zero after the point, as pandas writes columns with gaps."""
        return self._all_match(r"^([1-9]\d{0,14}|0)(\.0)?$")

    @cached_property
    def is_id(self) -> bool:
        """Whether the values may be ids: integers, or short texts without blanks."""
        if self.raw.dtype.is_nested() or self.raw.dtype in (pl.Boolean, pl.Date, pl.Datetime):
            return False
        return self.is_whole_float or self.is_padded or (self.numbers is None and self._all_match(r"^\S{1,200}$"))

    @cached_property
    def is_code(self) -> bool:
        """Whether the values may be ids with blanks, such as "K 45": texts that differ in their digits alone."""
        if not self.is_text or self.seconds_format is not None:
            return False
        return self._all_match(r"^.{1,64}$") and self.text.str.replace_all(r"\d+", "0").n_unique() == 1

    @cached_property
    def is_padded(self) -> bool:
        """Whether the values are digits, some with leading zeros or, as telephone numbers have, a plus."""
        return self._all_match(r"^\+?\d+[A-Za-z]?$") and bool(self.text.str.contains(r"^[0+]\d").any())

    @cached_property
    def is_text(self) -> bool:
        """Whether the values have words."""
        return bool(len(self.text)) and self.numbers is None and mean(self.text.str.contains(r"\pL")) > 0.5

    @cached_property
    def is_url(self) -> bool:
        return bool(len(self.text)) and re.match(r"\w+://", self.text[0]) is not None

    @cached_property
    def time_formats(self) -> list[str]:
        """Formats by which values are times, nearly all of them plausible; one of those that give the same times."""
        if self.raw.dtype in (pl.Date, pl.Datetime):
            return ["unix_seconds"]  # not needed, then
        if not len(self.text):
            return []
        some = self.text.unique(maintain_order=True)
        first = some[0]
        if self.numbers is not None and not re.fullmatch(r"\d{8}|\d{12}|\d{14}", first):
            return self._units()
        if not re.search(r"\d.*\d", first) or len(first) > 40:
            return []
        shaped = (each for each in TIME_FORMATS if _shape(each).fullmatch(first.strip()))
        formats = [each for each in shaped if _fits(some.head(20), each, 0.5) and _fits(self.text, each)]
        return list({tuple(seconds_by(some, each)): each for each in reversed(formats)}.values())[::-1] or self._units()

    @cached_property
    def seconds_format(self) -> str | None:
        """Likeliest time format; None if the column holds no times. The order of the rows tells day from month."""
        formats = self.time_formats
        if len(formats) < 2:
            return next(iter(formats), None)
        return max(formats, key=lambda each: mean(seconds_by(self.text, each).diff() >= 0))

    def _units(self) -> list[str]:
        """Return the units since 1970 by which all numbers are plausible times."""
        if self.numbers is None or self.is_padded:
            return []
        medians = {unit: float(np.median(self.numbers)) / ticks for unit, ticks in UNIX_UNITS.items()}
        fitting = [unit for unit, second in medians.items() if LAST_YEARS[0] <= second < LAST_YEARS[1]]
        return fitting if self.distinct > 1 or self.words & lexicon.TIME else []

    @cached_property
    def separator(self) -> str | None:
        """Separator of several values in a text; `WRITTEN_LISTS` for lists written as text."""
        text, is_named = self.text.head(2_000), bool(self.words & lexicon.LIST)
        if len(text) and text.str.contains(r"^\[.*\]$").all():
            with suppress(ValueError):
                RawColumns(text.to_frame("x"), "sample").lists("x", "separator", WRITTEN_LISTS)
                return WRITTEN_LISTS
        if not (self.is_text or is_named):
            return None
        for mark in ("|", ";", ", ", ","):
            parts = text.str.split(mark)
            several = mean(parts.list.len() > 1)
            if several >= 0.1 and (parts.list.len() <= 100).all():
                words = parts.explode().str.strip_chars()
                is_short = mean(words.str.len_chars()) <= 30
                if is_short and (is_named or mark == "|" or words.n_unique() < 0.8 * text.n_unique()):
                    return mark.strip()
        return None

    @cached_property
    def list_separator(self) -> str | None:
        """Separator of several ids or numbers in a text, such as "12 15 19"; None if most texts have one, or others."""
        text = self.text.head(2_000)
        if self.separator == WRITTEN_LISTS:
            return WRITTEN_LISTS
        if not len(text) or self.raw.dtype.is_temporal() or self.is_id or self.seconds_format is not None:
            return None
        element = r"[\w.:-]*\d[\w.:-]*"
        for mark in ("|", ";", ",", " "):
            has_several = mean(text.str.contains(mark, literal=True)) > 0.5
            if has_several and text.str.contains(rf"^{element}([{mark}]{element})*$").all():
                return mark
        return None

    @cached_property
    def is_slate(self) -> bool:
        """Whether the values list what was shown at once, and whether it was clicked, such as "N1-1 N2-0"."""
        some = self.text.head(100)
        is_shown = bool(len(some)) and some.str.contains(rf"^{SHOWN}( {SHOWN})*$").all()
        return bool(is_shown and some.str.contains(" ").any())

    @property
    def holds_several(self) -> bool:
        """Whether the values are lists, or texts of several ids or numbers."""
        return self.is_list or self.is_slate or self.list_separator is not None

    @cached_property
    def ids(self) -> pl.Series:
        """The distinct ids of the column as texts, also of one with lists of ids; none if it holds no ids."""
        if self.is_slate:
            return self.text.str.extract_all(SHOWN).explode().str.replace(r"-[01]$", "").drop_nulls().unique()
        if self.is_list:
            found = self.values.explode().cast(pl.String)
        elif self.list_separator is not None:
            found = self.elements(self.list_separator)
        else:
            found = self.text.str.replace(r"\.0$", "") if self.is_whole_float else self.text
            found = found if self.is_id or self.is_text or self.words & lexicon.ID else found.clear()
        return found.clear() if self.words & lexicon.NUMBERED else found.drop_nulls().unique()

    def elements(self, mark: str) -> pl.Series:
        """Return what a separator parts in the values, without brackets and quotation marks."""
        text, mark = (self.text.str.strip_chars("[]"), ",") if mark == WRITTEN_LISTS else (self.text, mark)
        return text.str.split(mark).explode().str.strip_chars(" '\"")

    def _all_match(self, pattern: str) -> bool:
        return bool(len(self.text)) and bool(self.text.str.contains(pattern).all())


def seconds_by(text: pl.Series, time_format: str) -> pl.Series:
    """Return times as seconds since 1970; raise ValueError for one that is not of the format."""
    return RawColumns(text.to_frame("t"), "sample").seconds(["t"], "timestamp", time_format, "timestamp_format")


@cache
def _shape(time_format: str) -> re.Pattern[str]:
    """Return a pattern of all texts that are of a time format, and of others like them: it is faster than parsing."""
    written = {"%z": ".*", "%.f": r"(\.\d+)?", " ": r"\s*"} | dict.fromkeys(("%a", "%b", "%B", "%p"), r"[^\W\d]+")
    parts = re.findall(r"%\.?\w|.", time_format)
    numbers = {each: r"\s*[-+]?\d{1,4}" for each in parts if each[0] == "%"}
    return re.compile("".join((numbers | written).get(each, re.escape(each)) for each in parts))


def _fits(text: pl.Series, time_format: str, least: float = LEAST_IN_THEM) -> bool:
    with suppress(ValueError, pl.exceptions.PolarsError):
        return mean(seconds_by(text, time_format).is_between(*LAST_YEARS)) >= least
    return False


def are_plausible(text: pl.Series, time_format: str) -> pl.Series:
    """Return which texts are plausible times of a strptime format."""
    seconds = text.str.to_datetime(time_format.replace("%z", "%#z"), strict=False).dt.epoch("s")
    return seconds.is_between(*LAST_YEARS).fill_null(False)


def has_clock(time_format: str) -> bool:
    """Return whether a format has the time of day."""
    return "%H" in time_format or "%I" in time_format or time_format.startswith("unix_")


def plain(text: str) -> str:
    """Return a text of a file as one line without control characters, for a terminal or a comment."""
    return CONTROL.sub(" ", text)


def examples(column: Column, limit: int) -> str:
    """Return some of a column's values, each of them once and none longer than a word or two."""
    some = column.values.head(1_000).unique(maintain_order=True).head(limit).to_list()
    shown = [plain(str(value)) for value in some]
    return ", ".join(value if len(value) <= LONGEST_EXAMPLE else f"{value[: LONGEST_EXAMPLE - 1]}…" for value in shown)


def id_likelihood(column: Column, words: frozenset[str]) -> int:
    """Return how well a column's name fits the id of an entity with these names, such as "item"; 0 if not at all.

    Examples:
        >>> [id_likelihood(Column(name, pl.Series([1, 2])), lexicon.ITEM) for name in ("movieId", "movie", "a_name")]
        [4, 3, 0]
    """
    holds_lists = column.is_list or column.separator == WRITTEN_LISTS
    named = {word.removesuffix("s") for word in column.words} if holds_lists else column.words
    if not named & words or named & lexicon.NO_ID or (column.raw.dtype.is_nested() and not holds_lists):
        return 0
    return 4 if column.words & lexicon.ID else 3 if len(column.words) == 1 else 2
