"""Nearly forty small pairs of raw tables, made up, whose meaning `new-log` and `Recommender.fit` have to tell."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import Any, NamedTuple

from public_logs import KINDS, TITLES, names, write

USERS, ITEMS, ROWS = 50, 60, 900
NAMES = [
    f"{first} {last}"
    for first in ("Ann", "Bo", "Cy", "Di", "Eve")
    for last in ("Roth", "Lind", "Okoye", "Sato", "Diaz")
]


class Event(NamedTuple):
    number: int
    user: int
    item: int
    at: datetime
    stars: int


def events(seed: int = 1, rows: int = ROWS) -> list[Event]:
    """Events in order; popular items are taken often, and users stay near items of their own."""
    random, at, made = Random(seed), datetime(2021, 1, 3, 8, tzinfo=UTC), list[Event]()
    for number in range(rows):
        at += timedelta(minutes=random.randrange(20, 800))
        user = min(int(random.expovariate(1 / 15)), USERS - 1)
        item = (user * 3 + min(int(random.expovariate(1 / 10)), 59)) % ITEMS
        made.append(Event(number, user, item, at, random.choice([1, 2, 3, 4, 4, 4, 5, 5])))
    return made


class Shape(NamedTuple):
    """Tables, and how they are to be read; `log` and `items` are names of files."""

    tables: Callable[[Path], list[Path]]
    user: str
    item: str
    times: Sequence[str] = ("place",)
    log: str = "log.csv"
    items: str | None = "items.csv"
    title: str | None = "title"
    rating: str | None = None
    clicked: str | None = None
    drop: Mapping[str, Any] = MappingProxyType({})
    weight: str | None = None
    weights: Mapping[str, float] = MappingProxyType({})
    explode: Sequence[str] = ()
    asks: bool = False


def day(event: Event) -> str:
    return f"{event.at:%Y-%m-%d}"


def table(folder: Path, name: str, header: str | None, rows: Iterable[Iterable[Any]], **dialect: Any) -> Path:
    return write(folder / name, [*([names(header)] if header else []), *rows], **dialect)


def films(folder: Path, header: str | None = "item_id,title,genre", first: int = 100, **dialect: Any) -> Path:
    """A table of items with titles and kinds."""
    rows = ([first + n, TITLES[n], KINDS[n % 4]] for n in range(ITEMS))
    return table(folder, "items.csv", header, rows, **dialect)


def german(folder: Path) -> list[Path]:
    rows = ([f"K{e.user:03}", e.item + 100, e.stars, f"{e.at:%d.%m.%Y %H:%M}"] for e in events(1))
    return [
        table(folder, "log.csv", "Kunde,Artikel,Bewertung,Zeitpunkt", rows, delimiter=";"),
        films(folder, "Artikel,Bezeichnung,Warengruppe", delimiter=";"),
    ]


def chinese(folder: Path) -> list[Path]:
    rows = ([e.user + 5_000, e.item + 100, e.stars, int(e.at.timestamp())] for e in events(2))
    return [table(folder, "log.csv", "用户,物品,评分,时间", rows), films(folder, "物品,名称,类别")]


def finnish_with_prices(folder: Path) -> list[Path]:
    """No known word at all; items have repeated whole numbers, such as prices and years."""
    rows = ([e.user + 1, e.item + 1, e.stars, day(e)] for e in events(3))
    games = ([n + 1, TITLES[n], 10 * (n % 6 + 1), 1990 + n % 20] for n in range(ITEMS))
    return [
        table(folder, "log.csv", "pelaaja,peli,arvio,aika", rows),
        table(folder, "items.csv", "tunnus,otsikko,hinta,vuosi", games),
    ]


def games_with_years(folder: Path) -> list[Path]:
    """The log has a number per row, in which years and prices of the items occur, too."""
    rows = ([e.number + 1, e.user + 1, e.item + 1, e.stars, day(e)] for e in events(4, 2_400))
    games = ([n + 1, TITLES[n], 5 * (n % 6 + 1), 1990 + n % 20] for n in range(ITEMS))
    return [
        table(folder, "log.csv", "nr,gracz,gra,punkty,czas", rows),
        table(folder, "items.csv", "kod,nazwa,cena,rok", games),
    ]


def no_headers(folder: Path) -> list[Path]:
    rows = ([e.user + 1, e.item + 100, e.stars, int(e.at.timestamp())] for e in events(5))
    return [table(folder, "log.csv", None, rows), films(folder, None)]


def swapped(folder: Path) -> list[Path]:
    """Items stand before users, by names."""
    rows = ([e.item + 100, e.user + 1, day(e)] for e in events(6))
    return [table(folder, "log.csv", "item_id,user_id,date", rows), films(folder)]


def swapped_without_words(folder: Path) -> list[Path]:
    """Items stand before users; the table of items tells."""
    rows = ([f"a{e.item + 100}", f"b{e.user}", day(e)] for e in events(7))
    goods = ([f"a{n + 100}", TITLES[n], KINDS[n % 4]] for n in range(ITEMS))
    return [table(folder, "log.csv", "x,y,z", rows), table(folder, "items.csv", "x,t,k", goods)]


def nothing_tells(folder: Path) -> list[Path]:
    """Neither words nor a table tell users from items: a question with sentences."""
    events_by_time = ([f"x{e.user}", f"y{e.item}", day(e)] for e in events(8))
    return [table(folder, "log.csv", "x,y,z", events_by_time)]


def lists_of_items_and_times(folder: Path) -> list[Path]:
    rows = dict[int, list[Event]]()
    for event in events(9):
        rows.setdefault(event.user, []).append(event)
    lines = (
        json.dumps({"user": user, "items": [e.item + 100 for e in own], "times": [int(e.at.timestamp()) for e in own]})
        for user, own in rows.items()
    )
    (folder / "log.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return [folder / "log.jsonl", films(folder)]


def lists_as_text(folder: Path) -> list[Path]:
    rows = dict[int, list[Event]]()
    for event in events(10):
        rows.setdefault(event.user, []).append(event)
    lines = (
        [user, " ".join(str(e.item + 100) for e in own), " ".join(str(int(e.at.timestamp())) for e in own)]
        for user, own in rows.items()
    )
    return [table(folder, "log.csv", "member,movies,timestamps", lines), films(folder)]


def baskets(folder: Path) -> list[Path]:
    rows = ([e.user, str([e.item + 100, (e.item + 7) % ITEMS + 100][: 1 + e.number % 2]), day(e)] for e in events(11))
    return [table(folder, "log.csv", "customer_id,items,date", rows), films(folder)]


def three_files(folder: Path) -> list[Path]:
    rows = ([e.user + 1, e.item + 1, e.stars, day(e)] for e in events(12))
    people = ([n + 1, 20 + n % 50, "mf"[n % 2], ("DE", "FR", "NA")[n % 3]] for n in range(USERS))
    return [
        table(folder, "log.csv", "who,what,how,when", rows),
        films(folder, "what,title,genre", first=1),
        table(folder, "people.csv", "who,age,sex,country", people),
    ]


def orders_and_lines(folder: Path) -> list[Path]:
    made = events(13)
    orders = ([f"o{e.number}", f"k{e.user}", f"{e.at:%Y-%m-%d %H:%M}"] for e in made[::2])
    lines = ([f"o{e.number // 2 * 2}", e.item + 100, 1 + e.number % 3] for e in made)
    return [
        table(folder, "log.csv", "bestellung,artikel,menge", lines),
        table(folder, "orders.csv", "bestellung,kunde,datum", orders),
        films(folder, "artikel,titel,gruppe"),
    ]


def semicolons_of_excel(folder: Path) -> list[Path]:
    rows = [[e.user + 1, e.item + 100, f"{e.stars},5" if e.stars < 5 else "5", day(e)] for e in events(14)]
    log = table(folder, "log.csv", "user_id,item_id,rating,date", rows, delimiter=";")
    log.write_text("sep=;\r\n" + log.read_text().replace("\n", "\r\n"), encoding="utf-8-sig")
    return [log, films(folder)]


def written_by_r(folder: Path) -> list[Path]:
    """R's write.table: blanks, quoted texts, and numbers of rows without a name."""
    lines = ['"user" "item" "rating" "date"']
    lines += [f'"{e.number + 1}" "u{e.user}" {e.item + 100} {e.stars} "{day(e)}"' for e in events(15)]
    (folder / "log.csv").write_text("\n".join(lines) + "\n")
    return [folder / "log.csv", films(folder)]


def with_comments(folder: Path) -> list[Path]:
    rows = ([f"u{e.user}", e.item + 100, day(e)] for e in events(16))
    log = table(folder, "log.csv", "user,item,date", rows)
    log.write_text("# exported by the shop, in 2021\n#\n" + log.read_text() + "# end\n")
    return [log, films(folder)]


def trailing_separators(folder: Path) -> list[Path]:
    rows = ([f"u{e.user}", e.item + 100, day(e), ""] for e in events(17))
    return [table(folder, "log.csv", "user,item,date", rows), films(folder)]


def refunds(folder: Path) -> list[Path]:
    """Sums of money, negative for refunds; a price of its own for each item would be no sign of one."""
    made, rows = events(18), list[list[Any]]()
    for e in made:
        rows.append([f"c{e.user}", f"s{e.item}", f"{e.item % 7 + 2.5 + e.number % 3}", day(e)])
        if e.number % 15 == 0:
            rows.append([f"c{e.user}", f"s{e.item}", f"-{e.item % 7 + 2.5 + e.number % 3}", day(e)])
    goods = ([f"s{n}", TITLES[n], KINDS[n % 4]] for n in range(ITEMS))
    return [
        table(folder, "log.csv", "customer,sku,total,day", rows),
        table(folder, "items.csv", "sku,title,kind", goods),
    ]


def plays(folder: Path) -> list[Path]:
    rows = ([f"u{e.user}", e.item + 100, 1 + e.number * 7 % 83 * (e.number % 3), day(e)] for e in events(19))
    return [table(folder, "log.csv", "user,artist,plays,date", rows), films(folder, "artist,name,genre")]


def hours(folder: Path) -> list[Path]:
    rows = ([e.user + 1, e.item + 100, f"{(e.number * 37 % 400) / 10}", day(e)] for e in events(20))
    return [
        table(folder, "log.csv", "player_id,game_id,hours_played,last_day", rows),
        films(folder, "game_id,title,genre"),
    ]


def quantities(folder: Path) -> list[Path]:
    rows = ([e.user + 1, e.item + 100, (1, 1, 1, 2, 6)[e.number * 7 % 5], day(e)] for e in events(21))
    return [
        table(folder, "log.csv", "customer_id,product_id,qty,ordered_at", rows),
        films(folder, "product_id,title,genre"),
    ]


def view_cart_buy(folder: Path) -> list[Path]:
    kinds = ["view", "view", "view", "cart", "purchase"]
    rows = ([e.user + 1, e.item + 100, kinds[e.number * 3 % 5], f"{e.at:%FT%TZ}"] for e in events(22))
    return [table(folder, "log.csv", "user_id,item_id,event,time", rows), films(folder)]


def thumbs(folder: Path) -> list[Path]:
    rows = ([f"u{e.user}", e.item + 100, e.stars > 2, day(e)] for e in events(23))
    return [table(folder, "log.csv", "user,video,thumbs_up,date", rows), films(folder, "video,title,genre")]


def returned(folder: Path) -> list[Path]:
    rows = ([f"u{e.user}", e.item + 100, "yes" if e.number % 11 == 0 else "no", day(e)] for e in events(24))
    return [table(folder, "log.csv", "customer,product,returned,date", rows), films(folder, "product,title,genre")]


def decimals(folder: Path) -> list[Path]:
    rows = ([e.user + 1, e.item + 100, f"{e.stars * 2 - e.number * 7 % 10 / 10:.1f}", day(e)] for e in events(25))
    return [table(folder, "log.csv", "user_id,item_id,score,date", rows), films(folder)]


def decimals_without_a_word(folder: Path) -> list[Path]:
    rows = ([e.user + 1, e.item + 100, f"{e.stars * 2 - e.number * 7 % 10 / 10:.1f}", day(e)] for e in events(26))
    rows = [*rows, *([n + 1, n + 100, "10.0", "2022-01-01"] for n in range(20))]
    return [table(folder, "log.csv", "käyttäjä,elokuva,arvosana,aika", rows), films(folder, "elokuva,nimi,laji")]


def ids_as_names(folder: Path) -> list[Path]:
    """Users by their names, items by their titles, and no table."""
    rows = ([NAMES[e.user % 25], TITLES[e.item], day(e)] for e in events(27))
    return [table(folder, "log.csv", "reader,book,date", rows)]


def ids_like_nulls(folder: Path) -> list[Path]:
    """Codes of countries and items called None are ids, in both tables."""
    codes = ["NA", "None", "null", *(f"i{n}" for n in range(ITEMS))]
    rows = (
        [("NA", "DE", "FR", "US", "ZA")[e.user % 5] + str(e.user // 5 or ""), codes[e.item], day(e)] for e in events(28)
    )
    goods = ([codes[n], TITLES[n], KINDS[n % 4]] for n in range(ITEMS))
    return [table(folder, "log.csv", "user,item,date", rows), table(folder, "items.csv", "item,title,genre", goods)]


def sessions(folder: Path) -> list[Path]:
    """A number per row, a session per few rows of a user, and the country of the user are no users."""
    rows = (
        [
            f"e{e.number}",
            f"s{e.user}-{e.at:%m%d}",
            f"u{e.user}",
            ("DE", "FR")[e.user % 2],
            e.item + 100,
            f"{e.at:%F %T}",
        ]
        for e in events(29)
    )
    return [
        table(folder, "log.csv", "event,session,visitor,land,page_id,at", rows),
        films(folder, "page_id,title,genre"),
    ]


def order_numbers(folder: Path) -> list[Path]:
    """Order numbers, whose lines have one time, look like users; cancelled ones begin with a letter."""
    rows = []
    for e in events(30):
        at = datetime(2021, 1, 3, tzinfo=UTC) + timedelta(hours=9 * (e.number // 3))
        user = (e.number // 3 * 7) % USERS
        rows.append(
            [
                f"{'C' if e.number // 3 % 20 == 0 else ''}{5_000 + e.number // 3}",
                f"{e.item + 100}",
                user,
                f"{at:%d/%m/%Y %H:%M}",
            ]
        )
    return [table(folder, "log.csv", "invoice,article,account,at", rows), films(folder, "article,title,genre")]


def dates_of_release(folder: Path) -> list[Path]:
    """Each item has a date of its own in the log, and each user one, too."""
    rows = (
        [f"u{e.user}", f"2019-{1 + e.user % 12:02}-03", e.item + 100, f"20{e.item % 20:02}-05-01", day(e)]
        for e in events(31)
    )
    return [table(folder, "log.csv", "nutzer,seit,film,erschienen,gesehen", rows), films(folder, "film,titel,art")]


def telephones(folder: Path) -> list[Path]:
    """Ids that begin with a plus or a minus."""
    rows = ([f"+4917{e.user:06}", f"-d{e.item}Q", e.stars, day(e)] for e in events(32))
    return [table(folder, "log.csv", "phone,video,stars,when", rows)]


def addresses(folder: Path) -> list[Path]:
    """Addresses of mail, and pages by their addresses."""
    stem = "https://news.example.org/2024/world/a-long-headline-with-many-words"
    rows = ([f"p{e.user}@example.org", f"{stem}/{e.item}", f"{e.at:%FT%T.%fZ}"] for e in events(33))
    return [table(folder, "log.csv", "email,url,visited", rows)]


def names_of_ids(folder: Path) -> list[Path]:
    """Columns with the names of titles hold the ids, as there are no others."""
    rows = ([f"u{e.user}", f"i{e.item}", f"{e.at:%b %d, %Y %I:%M %p}"] for e in events(34))
    return [table(folder, "log.csv", "user_name,item_name,at", rows)]


def spanish_kinds(folder: Path) -> list[Path]:
    kinds = ["vista", "vista", "vista", "carrito", "compra"]
    rows = ([e.user + 1, e.item + 100, kinds[e.number * 3 % 5], f"{e.at:%F %T}"] for e in events(35))
    return [table(folder, "log.csv", "cliente,producto,evento,fecha", rows), films(folder, "producto,título,género")]


def opinions_in_words(folder: Path) -> list[Path]:
    rows = (
        [e.user + 10, e.item + 100, "Recommended" if e.stars > 2 else "Not Recommended", day(e)] for e in events(36)
    )
    return [table(folder, "log.csv", "author,app_id,recommendation,created", rows), films(folder, "app_id,title,genre")]


def sums_with_thousands(folder: Path) -> list[Path]:
    """Sums of money as Germans write them, negative for refunds."""
    made, rows = events(37), list[list[Any]]()
    for e in made:
        amount = f"{1 + e.item % 7}.{100 + e.number % 800},50"
        rows.append([f"K{e.user}", f"A-{e.item}", amount, f"{e.at:%d.%m.%y}"])
        if e.number % 15 == 0:
            rows.append([f"K{e.user}", f"A-{e.item}", f"-{amount}", f"{e.at:%d.%m.%y}"])
    return [table(folder, "log.csv", "Kundennr,Artikelnr,Betrag,Belegdatum", rows, delimiter=";")]


SHAPES = {
    "German names": Shape(german, "Kunde", "Artikel", ["Zeitpunkt"], title="Bezeichnung", rating="Bewertung"),
    "Chinese names": Shape(chinese, "用户", "物品", ["时间"], title="名称", rating="评分", asks=True),
    "no word is known": Shape(
        finnish_with_prices, "pelaaja", "peli", ["aika"], title="otsikko", rating="arvio", asks=True
    ),
    "years and prices": Shape(games_with_years, "gracz", "gra", ["czas"], title="nazwa", rating="punkty", asks=True),
    "no headers": Shape(no_headers, "column_1", "column_2", ["column_4"], title="column_2", rating="column_3"),
    "swapped": Shape(swapped, "user_id", "item_id", ["date"]),
    "swapped without words": Shape(swapped_without_words, "y", "x", ["z"], title="t"),
    "nothing tells": Shape(nothing_tells, "x", "y", ["z"], items=None, title=None, asks=True),
    "lists of items and times": Shape(
        lists_of_items_and_times, "user", "items", ["times"], log="log.jsonl", explode=["items", "times"]
    ),
    "lists as text": Shape(lists_as_text, "member", "movies", ["timestamps"], explode=["movies", "timestamps"]),
    "baskets": Shape(baskets, "customer_id", "items", ["date"], explode=["items"]),
    "three files": Shape(three_files, "who", "what", ["when"], rating="how", asks=True),
    "orders and lines": Shape(
        orders_and_lines, "kunde", "artikel", ["datum"], title="titel", weight="menge", asks=True
    ),
    "Excel": Shape(semicolons_of_excel, "user_id", "item_id", ["date"], rating="rating"),
    "R": Shape(written_by_r, "user", "item", ["date"], rating="rating"),
    "comments": Shape(with_comments, "user", "item", ["date"]),
    "trailing separators": Shape(trailing_separators, "user", "item", ["date"]),
    "refunds": Shape(refunds, "customer", "sku", ["day"], drop={"total": {"starts_with": ["-"]}}),
    "plays": Shape(plays, "user", "artist", ["date"], title="name", weight="plays", asks=True),
    "hours": Shape(hours, "player_id", "game_id", ["last_day"], weight="hours_played", asks=True),
    "quantities": Shape(quantities, "customer_id", "product_id", ["ordered_at"], weight="qty", asks=True),
    "view, cart, buy": Shape(
        view_cart_buy,
        "user_id",
        "item_id",
        ["time"],
        weight="event",
        weights={"view": 0.2, "cart": 0.5, "purchase": 1},
        asks=True,
    ),
    "thumbs": Shape(thumbs, "user", "video", ["date"], clicked="thumbs_up"),
    "returned": Shape(returned, "customer", "product", ["date"], drop={"returned": ["yes"]}),
    "decimals": Shape(decimals, "user_id", "item_id", ["date"], rating="score"),
    "decimals without a word": Shape(
        decimals_without_a_word, "käyttäjä", "elokuva", ["aika"], title="nimi", rating="arvosana", asks=True
    ),
    "ids as names": Shape(ids_as_names, "reader", "book", ["date"], items="log.csv", title="book"),
    "ids like nulls": Shape(ids_like_nulls, "user", "item", ["date"]),
    "sessions": Shape(sessions, "visitor", "page_id", ["at"]),
    "order numbers": Shape(order_numbers, "account", "article", ["at"], drop={"invoice": {"starts_with": ["C"]}}),
    "telephones": Shape(telephones, "phone", "video", ["when"], items=None, title=None, rating="stars"),
    "addresses": Shape(addresses, "email", "url", ["visited"], items=None, title=None),
    "names of ids": Shape(names_of_ids, "user_name", "item_name", ["at"], items=None, title=None),
    "kinds of events in Spanish": Shape(
        spanish_kinds,
        "cliente",
        "producto",
        ["fecha"],
        title="título",
        weight="evento",
        weights={"vista": 0.2, "carrito": 0.5, "compra": 1},
        asks=True,
    ),
    "opinions in words": Shape(opinions_in_words, "author", "app_id", ["created"], clicked="recommendation"),
    "sums with thousands": Shape(
        sums_with_thousands,
        "Kundennr",
        "Artikelnr",
        ["Belegdatum"],
        items=None,
        title=None,
        drop={"Betrag": {"starts_with": ["-"]}},
    ),
    "dates of release": Shape(dates_of_release, "nutzer", "film", ["gesehen"], title="titel"),
}
