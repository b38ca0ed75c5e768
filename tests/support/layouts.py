"""Twelve layouts of raw tables that new users came with; values are fabricated."""

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from unicodedata import normalize

from public_logs import ITEMS, KINDS, TITLES, USERS, events, names, write


def board_games(folder: Path) -> list[Path]:
    """Ratings of board games; the table of games has ages of players, and its ids overlap those of users."""
    random = Random(1)
    rows = [[user + 1, item + 1, random.randint(1, 10), moment.date()] for _, user, item, moment in events(1)]
    games = [[n + 1, TITLES[n], 8 + n % 6, 2 + n % 4, KINDS[n % 4]] for n in range(ITEMS)]
    return [
        write(folder / "ratings.csv", [names("member,game,rating,day"), *rows]),
        write(folder / "games.csv", [names("id,name,age,players,category"), *games]),
    ]


def news(folder: Path) -> list[Path]:
    """MIND: no headers; ids of impressions, histories of clicks, and lists of what was shown and clicked."""
    random, clicked, rows = Random(2), dict[int, list[str]](), []
    for number, user, item, moment in events(2):
        shown = [item, *random.sample(range(ITEMS), 3)]
        slate = [f"N{1000 + each}-{int(place == 0)}" for place, each in enumerate(dict.fromkeys(shown))]
        before = " ".join(clicked.get(user, []))
        rows.append([number + 1, f"U{user}", f"{moment:%m/%d/%Y %I:%M:%S %p}", before, " ".join(slate)])
        clicked.setdefault(user, []).append(f"N{1000 + item}")
    table = [
        [f"N{1000 + n}", "sports", f"kind{n % 3}", f'{TITLES[n]} said "no', "", "https://a.b/c", "[]", "[]"]
        for n in range(ITEMS)
    ]
    plain = {"delimiter": "\t", "quoting": 3, "quotechar": None}
    return [write(folder / "behaviors.tsv", rows, **plain), write(folder / "news.tsv", table, **plain)]


def artists(folder: Path) -> list[Path]:
    """Last.fm of HetRec: tables with headers, parted by tabs, and quotation marks that begin names."""
    plain = {"delimiter": "\t", "quoting": 3, "quotechar": None}
    named = ['"Weird Al" Yankovic', *TITLES[1:]]
    rows = [[user + 2, item + 1, 10 + number] for number, user, item, _ in events(3)]
    table = [[n + 1, named[n], f"http://www.last.fm/music/{n}", ""] for n in range(ITEMS)]
    return [
        write(folder / "user_artists.dat", [names("userID,artistID,weight"), *rows], **plain),
        write(folder / "artists.dat", [names("id,name,url,pictureURL"), *table], **plain),
    ]


def old_mac(folder: Path) -> list[Path]:
    """A shop's export with the line ends of a spreadsheet for the Mac: carriage returns alone."""
    rows = [[f"C{user:04}", f"A{item:03}", moment.strftime("%Y-%m-%d %H:%M")] for _, user, item, moment in events(4)]
    products = [[f"A{n:03}", TITLES[n], KINDS[n % 4]] for n in range(ITEMS)]
    files = [
        write(folder / "orders.csv", [names("customer,article,ordered_at"), *rows]),
        write(folder / "products.csv", [names("article,title,category"), *products]),
    ]
    for file in files:
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r"))
    return files


def json_object(folder: Path) -> list[Path]:
    """Lines of JSON, and one object of items by id."""
    log = "".join(
        json.dumps({"user": f"u{user}", "product": f"B{item:05}", "ts": int(moment.timestamp() * 1000)}) + "\n"
        for _, user, item, moment in events(5)
    )
    table = {f"B{n:05}": {"title": TITLES[n], "brand": KINDS[n % 4]} for n in range(ITEMS)}
    (folder / "clicks.json").write_text(log)
    (folder / "products.json").write_text(json.dumps(table))
    return [folder / "clicks.json", folder / "products.json"]


def json_arrays(folder: Path) -> list[Path]:
    """Arrays of JSON, indented, both of events and of items."""
    log = [
        {"listener": f"l{user}", "song": item + 100, "played_at": int(moment.timestamp() * 1000)}
        for _, user, item, moment in events(6)
    ]
    table = [{"id": n + 100, "title": TITLES[n], "genres": [KINDS[n % 4], KINDS[n % 3]]} for n in range(ITEMS)]
    (folder / "plays.json").write_text(json.dumps(log, indent=1))
    (folder / "songs.json").write_text(json.dumps(table, indent=1))
    return [folder / "plays.json", folder / "songs.json"]


def without_headers(folder: Path) -> list[Path]:
    """Amazon's ratings of 2014: no header; the table of items has one."""
    random = Random(7)
    rows = [
        [f"A{user * 7919:013}", f"B{item * 104_729:09}", float(random.choice([1, 3, 4, 5, 5])), int(moment.timestamp())]
        for _, user, item, moment in events(7)
    ]
    table = [[f"B{n * 104_729:09}", TITLES[n], KINDS[n % 4]] for n in range(ITEMS)]
    return [
        write(folder / "ratings_Beauty.csv", rows),
        write(folder / "meta.csv", [names("asin,title,category"), *table]),
    ]


def movies(folder: Path) -> list[Path]:
    """MovieLens-1M: three files without headers, parted by two colons; users and items are numbered from 1."""
    random = Random(8)
    rows = [[user + 1, item + 1, random.randint(1, 5), int(moment.timestamp())] for _, user, item, moment in events(8)]
    tables = {
        "ratings.dat": rows,
        "movies.dat": [
            [n + 1, f"{TITLES[n]} (19{40 + n})", "|".join({KINDS[n % 4], KINDS[n % 3]})] for n in range(ITEMS)
        ],
        "users.dat": [[n + 1, "FM"[n % 2], [1, 18, 25, 35][n % 4], n % 20, f"{48_000 + n * 7}"] for n in range(USERS)],
    }
    for name, table in tables.items():
        text = "".join("::".join(map(str, row)) + "\n" for row in table)
        (folder / name).write_text(text, encoding="latin-1")
    return [folder / name for name in tables]


def with_gaps(folder: Path) -> list[Path]:
    """Some ratings and some times are missing."""
    random = Random(9)
    rows = [
        [
            user,
            item,
            "" if number % 12 == 5 else random.choice([1, 3, 4, 5]),
            "" if number % 20 == 3 else moment.strftime("%Y-%m-%d %H:%M:%S"),
        ]
        for number, user, item, moment in events(9)
    ]
    return [write(folder / "reviews.csv", [names("reviewer_id,product_id,stars,created_at"), *rows])]


def no_goods(folder: Path) -> list[Path]:
    """A shop whose lines of orders have postage and vouchers, too."""
    rows = []
    for number, user, item, moment in events(10):
        day = moment.strftime("%d.%m.%Y %H:%M")
        rows.append([f"K{user:03}", f"{20_000 + item}", TITLES[item], day, "3,50"])
        if number % 3 == 0:
            rows.append([f"K{user:03}", "POST", "POSTAGE", day, "4,90"])
        if number % 40 == 0:
            rows.append([f"K{user:03}", "gift_0001_20", "Gift voucher 20.00", day, "20,00"])
    return [write(folder / "export.csv", [names("customer_id,sku,description,ordered,price"), *rows], delimiter=";")]


def accents(folder: Path) -> list[Path]:
    """Ids of users whose accents are written in two ways."""
    rows = [
        [normalize("NFD" if number % 3 else "NFC", f"zoë{user}"), item, moment.strftime("%Y-%m-%dT%H:%M:%SZ")]
        for number, user, item, moment in events(11)
    ]
    table = [[n, TITLES[n]] for n in range(ITEMS)]
    return [
        write(folder / "views.csv", [names("visitor,page_id,viewed_at"), *rows]),
        write(folder / "pages.csv", [names("page_id,title"), *table]),
    ]


def two_keys(folder: Path) -> list[Path]:
    """Names tell nothing: ids of the log's columns are those of the tables' keys."""
    rows = [[f"p-{user}", f"q-{item}", moment.strftime("%Y/%m/%d")] for _, user, item, moment in events(12)]
    people = [[f"p-{n}", 20 + n % 50, "mf"[n % 2]] for n in range(USERS)]
    things = [[f"q-{n}", TITLES[n], KINDS[n % 4]] for n in range(ITEMS)]
    return [
        write(folder / "log.csv", [names("a,b,day"), *rows]),
        write(folder / "people.csv", [names("key,age,sex"), *people]),
        write(folder / "things.csv", [names("key,name,kind"), *things]),
    ]


LAYOUTS: dict[str, Callable[[Path], list[Path]]] = {
    layout.__name__: layout
    for layout in (
        board_games,
        news,
        artists,
        old_mac,
        json_object,
        json_arrays,
        without_headers,
        movies,
        with_gaps,
        no_goods,
        accents,
        two_keys,
    )
}
