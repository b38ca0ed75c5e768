"""Raw files in the columns of well-known public logs that have no environment in conf/; values are fabricated."""

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import polars as pl

USERS, ITEMS, ROWS = 40, 60, 600
NOUNS = ("Lamp", "Teapot", "Garden", "Journey", "River", "Castle", "Mirror", "Signal", "Harbour", "Winter")
TITLES = [
    f"{adjective} {noun}" for adjective in ("Red", "Silent", "Wooden", "Golden", "Lost", "Little") for noun in NOUNS
]
KINDS = ("Drama", "Comedy", "Horror", "Romance")


def events(seed: int) -> Iterator[tuple[int, int, int, datetime]]:
    """Number, user, item and time of each event, the earliest first; users stay near items of their own."""
    random, moment = Random(seed), datetime(2019, 3, 1, 8, tzinfo=UTC)
    for number in range(ROWS):
        moment += timedelta(minutes=random.randrange(3, 900))
        user = random.randrange(USERS)
        yield number, user, (user * 3 + random.randrange(20)) % ITEMS, moment


def write(file: Path, rows: Iterable[Iterable[Any]], encoding: str = "utf-8", **dialect: Any) -> Path:
    """Write rows as delimited text, gzipped where the file's name says so."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n", **dialect).writerows(rows)
    content = text.getvalue().encode(encoding)
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)
    return file


def names(text: str) -> list[str]:
    """The names in a header."""
    return text.split(",")


def online_retail(folder: Path) -> list[Path]:
    """Online Retail (UCI): lines of invoices, some cancelled, customers missing or written as floats; latin-1."""
    random, rows = (
        Random(1),
        [names("InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country")],
    )
    for number, user, item, moment in events(1):
        cancelled = number % 29 == 28
        invoice = f"{'C' if cancelled else ''}{536_365 + number // 3}"
        code = f"{20_000 + item}{'A' if item % 7 == 0 else ''}"
        title = TITLES[item].upper() + (", Ø 12" if item % 9 == 0 else "")
        day = f"{moment.month}/{moment.day}/{moment.year} {moment.hour}:{moment.minute:02}"
        customer = "" if number % 11 == 10 else f"{12_346 + user}.0"
        country = "Germany" if user % 5 == 0 else "United Kingdom"
        quantity = -1 if cancelled else random.randrange(1, 12)
        rows.append([invoice, code, title, quantity, day, 2.5 + item, customer, country])
    return [write(folder / "OnlineRetail.csv", rows, "latin-1")]


def steam(folder: Path) -> list[Path]:
    """Steam-200k: no header, no times, games by their titles, purchases and hours of play."""
    rows = [
        [
            150_000_000 + user * 37,
            TITLES[item] + (", The Game" if item % 5 == 0 else ""),
            *(("play", number * 7 % 900 / 10) if number % 2 else ("purchase", 1.0)),
            0,
        ]
        for number, user, item, _ in events(2)
    ]
    return [write(folder / "steam-200k.csv", rows)]


def yelp(folder: Path) -> list[Path]:
    """Yelp: lines of JSON, with texts of reviews, and businesses with nested attributes."""
    random = Random(3)
    reviews = [
        {
            "review_id": f"r{number:021}",
            "user_id": f"u_{user * 7919:019}",
            "business_id": f"b-{item * 104_729:019}",
            "stars": float(random.choice([1, 2, 3, 4, 4, 5, 5])),
            "useful": number % 3,
            "funny": 0,
            "cool": number % 2,
            "text": f'We went {number} times.\nThe "special" was fine, {random.random():.3f}.',
            "date": f"{moment:%Y-%m-%d %H:%M:%S}",
        }
        for number, user, item, moment in events(3)
    ]
    businesses = [
        {
            "business_id": f"b-{item * 104_729:019}",
            "name": title,
            "address": f"{item} Main St",
            "city": ("Phoenix", "Toronto")[item % 2],
            "state": ("AZ", "ON")[item % 2],
            "postal_code": f"{85_001 + item}",
            "latitude": 33.4 + item / 100,
            "longitude": -112.0 - item / 100,
            "stars": 1 + item % 9 / 2,
            "review_count": 3 + item,
            "is_open": int(item % 6 > 0),
            "attributes": {"WiFi": "u'free'", "RestaurantsTakeOut": "True"} if item % 3 else None,
            "categories": ("Restaurants, Thai, Bars", "Doctors, Health & Medical", "Bars, Nightlife")[item % 3],
            "hours": {"Monday": "9:0-17:0"} if item % 4 else None,
        }
        for item, title in enumerate(TITLES)
    ]
    files = [folder / f"yelp_academic_dataset_{name}.json" for name in ("review", "business")]
    for file, records in zip(files, (reviews, businesses), strict=True):
        file.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return files


def book_crossing(folder: Path) -> list[Path]:
    """Book-Crossing: semicolons, quoted fields with escaped quotation marks, latin-1, 0 for no rating, no times."""
    random, isbns = Random(4), [f"0{345_000_000 + item * 31}{'X' if item % 8 == 0 else ''}" for item in range(ITEMS)]
    ratings = [["User-ID", "ISBN", "Book-Rating"]]
    ratings += [
        [str(276_700 + user), isbns[item], "0" if random.random() < 0.55 else random.choice("5678889")]
        for _, user, item, _ in events(4)
    ]
    books = [["ISBN", "Book-Title", "Book-Author", "Year-Of-Publication", "Publisher", "Image-URL-S"]]
    for item, title in enumerate(TITLES):
        title, image = title + (' ("Das Café"; 2)' if item % 10 == 3 else ""), f"http://images.amazon.com/{item}.jpg"
        books.append([isbns[item], title, f"Author {item % 9}", str(1980 + item % 20), f"Publisher {item % 4}", image])
    users = [["User-ID", "Location", "Age"]]
    for user in range(USERS):
        place = ("porto, , portugal", "timmins, ontario, canada")[user % 2]
        users.append([str(276_700 + user), place, "NULL" if user % 3 == 0 else str(18 + user % 10)])
    dialect = {"delimiter": ";", "quoting": csv.QUOTE_ALL, "doublequote": False, "escapechar": "\\"}
    tables = {"Book-Ratings": ratings, "Books": books, "Users": users}
    return [write(folder / f"BX-{name}.csv", rows, "latin-1", **dialect) for name, rows in tables.items()]


def last_fm(folder: Path) -> list[Path]:
    """Last.fm 1K: no header, tabs, users by name, artists and tracks by UUID, some missing; profiles of users."""
    rows = list[list[str]]()
    for number, user, item, moment in events(5):
        artist, track = item % 30, item * 7 + number % 5
        artist_id = "" if artist == 29 else f"{artist:08x}-cb69-4ae3-a3be-{artist * 77:012x}"
        track_id = "" if number % 4 == 0 else f"{track:08x}-11b6-4cd4-98d5-{track * 31:012x}"
        name, song = f"The {TITLES[artist]}", f'Song "{track}"' if track % 6 == 0 else f"Song {track} (live)"
        rows.append([f"user_{user + 1:06}", f"{moment:%Y-%m-%dT%H:%M:%SZ}", artist_id, name, track_id, song])
    profiles = [["#id", "gender", "age", "country", "registered"]]
    for user in range(USERS):
        age, country = "" if user % 3 else str(20 + user % 9), ("Japan", "Peru")[user % 2]
        profiles.append([f"user_{user + 1:06}", "mf"[user % 2], age, country, "Aug 13, 2006"])
    dialect = {"delimiter": "\t", "quoting": csv.QUOTE_NONE, "quotechar": None}
    tables = {"userid-timestamp-artid-artname-traid-traname": rows, "userid-profile": profiles}
    return [write(folder / f"{name}.tsv", table, **dialect) for name, table in tables.items()]


def retail_rocket(folder: Path) -> list[Path]:
    """RetailRocket: events in milliseconds, and a long table of hashed properties; no titles."""
    log = [names("timestamp,visitorid,event,itemid,transactionid")]
    for number, user, item, moment in events(6):
        kind = "transaction" if number % 20 == 0 else "addtocart" if number % 10 == 0 else "view"
        order = str(number) if kind == "transaction" else ""
        log.append([int(moment.timestamp() * 1000), 257_597 + user, kind, 355_908 + item, order])
    properties = [names("timestamp,itemid,property,value")]
    for item in range(ITEMS):
        for name, value in (("categoryid", 1_338 + item % 9), ("available", 1), ("790", f"n{item * 977}.000")):
            properties.append([1_435_460_400_000, 355_908 + item, name, value])
    return [write(folder / "events.csv", log), write(folder / "item_properties.csv", properties)]


def food_com(folder: Path) -> list[Path]:
    """Food.com: days, reviews with line breaks, and recipes with lists written as text, whose id is `id`."""
    random, log = Random(7), [names("user_id,recipe_id,date,rating,review")]
    for number, user, item, moment in events(7):
        review = f'Great, made it {number} times.\nThanks "a lot"'
        stars = random.choice([0, 3, 4, 5, 5, 5, 5, 5])
        log.append([38_094 + user, 40_893 + item, f"{moment:%Y-%m-%d}", stars, review])
    recipes = [names("name,id,minutes,contributor_id,submitted,tags,nutrition,n_steps,steps,description,ingredients")]
    for item, title in enumerate(TITLES):
        tags = [f"{('15', '60')[item % 2]}-minutes-or-less", "occasion", KINDS[item % 4].lower()]
        text = f"my {title.lower()} is a dish that my mother's cousin made every winter, and it is number {item}"
        parts = ["salt", ("egg", "rice", "flour")[item % 3], "olive oil"]
        steps, numbers = [f"mix everything {item}", f"bake it at {300 + item}"], [51.5, 0.0, float(item)]
        described = [tags, numbers, 2, steps, "" if item == 9 else text, parts]
        recipes.append(
            [title.lower(), 40_893 + item, 5 + item, 1_533 + item % 3, f"2005-09-{1 + item % 28:02}", *described]
        )
    return [write(folder / "RAW_interactions.csv", log), write(folder / "RAW_recipes.csv", recipes)]


def anime(folder: Path) -> list[Path]:
    """Anime Recommendations: -1 for watched without a rating, no times; items have ratings of their own."""
    random, log = Random(8), [names("user_id,anime_id,rating")]
    log += [[user + 1, item + 20, random.choice([-1, -1, 5, 6, 7, 8, 8, 9, 10])] for _, user, item, _ in events(8)]
    items = [names("anime_id,name,genre,type,episodes,rating,members")]
    for item, title in enumerate(TITLES):
        genre = f"{KINDS[item % 4]}, {KINDS[(item + 1) % 4]}, School" if item % 5 else "Drama"
        episodes, kind = "Unknown" if item == 12 else 1 + item % 26, ("TV", "Movie", "OVA")[item % 3]
        items.append([item + 20, title, genre, kind, episodes, f"{6 + item / 20:.2f}", 200_000 - item])
    return [write(folder / "rating.csv", log), write(folder / "anime.csv", items)]


def h_and_m(folder: Path) -> list[Path]:
    """H&M: days of purchases in parquet, customers by hash, articles with leading zeros, and many columns of words."""
    codes = [f"0{663_713_001 + item * 1_000}" for item in range(ITEMS)]
    purchases = folder / "transactions_train.parquet"
    rows = [
        (f"{moment:%Y-%m-%d}", f"{user:064x}", codes[item], 0.05, 1 + item % 2) for _, user, item, moment in events(9)
    ]
    pl.DataFrame(rows, names("t_dat,customer_id,article_id,price,sales_channel_id"), orient="row").write_parquet(
        purchases
    )
    articles = [
        names("article_id,product_code,prod_name,product_type_no,product_type_name,colour_group_name,detail_desc")
    ]
    for item, title in enumerate(TITLES):
        kind, colour = ("Vest top", "Bra", "Socks")[item % 3], ("Black", "White")[item % 2]
        text = f"{title} in soft jersey with narrow shoulder straps, number {item}."
        articles.append([codes[item], f"0{663_713 + item}", title, 253 + item % 3, kind, colour, text])
    customers = [names("customer_id,FN,Active,club_member_status,fashion_news_frequency,age,postal_code")]
    for user in range(USERS):
        news = ("NONE", "Regularly")[user % 2]
        customers.append([f"{user:064x}", "", "", "ACTIVE", news, 20 + user % 30, f"{user * 77:064x}"])
    return [purchases, write(folder / "articles.csv.gz", articles), write(folder / "customers.csv", customers)]


def kuai_rand(folder: Path) -> list[Path]:
    """KuaiRand: what was shown and whether it was clicked; date, hour and milliseconds; videos without titles."""
    random = Random(10)
    log = [
        names("user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,long_view,play_time_ms,duration_ms,tab")
    ]
    for _, user, item, moment in events(10):
        click, day = int(random.random() < 0.4), f"{moment:%Y%m%d}"
        times = [day, moment.hour * 100, int(moment.timestamp() * 1000)]
        log.append([user, item, *times, click, 0, 0, click, random.randrange(9_000), 5_000 + item, item % 3])
    videos = [names("video_id,author_id,video_type,upload_dt,upload_type,video_duration,music_id,tag")]
    for item in range(ITEMS):
        kind, tags = ("NORMAL", "AD")[item % 2], f"{item % 7}" if item % 3 else f"{item % 7},{item % 5}"
        day = f"2019-02-{1 + item % 20:02}"
        videos.append([item, item % 11, kind, day, "LongImport", f"{5_000 + item}.0", item * 13, tags])
    return [write(folder / "log_standard.csv", log), write(folder / "video_features_basic.csv", videos)]


def instacart(folder: Path) -> list[Path]:
    """Instacart, joined to one table: numbers of orders in place of times, and titles in the log."""
    rows, orders = (
        [names("user_id,order_id,order_number,order_dow,order_hour_of_day,product_id,product_name,reordered")],
        {},
    )
    for number, user, item, moment in events(11):
        orders[user] = orders.get(user, 0) + (number % 3 > 0)
        order = [2_539_329 + user * 100 + orders[user], orders[user] + 1, moment.weekday(), f"{moment.hour:02}"]
        rows.append([user + 1, *order, 196 + item, TITLES[item], number % 2])
    return [write(folder / "orders.csv", rows)]


def multi_category_store(folder: Path) -> list[Path]:
    """REES46, a store of many categories: gzipped, times with a zone's name, codes of categories, no titles."""
    rows = [names("event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session")]
    for number, user, item, moment in events(12):
        kind = ("view", "view", "cart", "purchase", "remove_from_cart")[number % 5]
        code = "" if item % 4 == 0 else f"electronics.{('audio', 'video')[item % 2]}"
        product = [44_600_062 + item, 2_103_807_459_595_387_724 + item % 9, code, f"brand{item % 5}", 35.79 + item]
        session = f"72d76fde-8bb3-4e00-8c23-{user:012x}"
        rows.append([f"{moment:%Y-%m-%d %H:%M:%S} UTC", kind, *product, 541_312_140 + user, session])
    return [write(folder / "2019-Oct.csv.gz", rows)]


def netflix(folder: Path) -> list[Path]:
    """Netflix Prize as tables: no headers, days, and titles with commas; latin-1."""
    random = Random(13)
    log = [
        [item + 1, 1_488_844 + user * 31, random.choice([1, 2, 3, 4, 4, 5]), f"{moment:%Y-%m-%d}"]
        for _, user, item, moment in events(13)
    ]
    movies = [
        [item + 1, 1990 + item % 15, title + (", the Sequel" if item % 10 == 0 else "") + (" é" if item == 3 else "")]
        for item, title in enumerate(TITLES)
    ]
    return [write(folder / "ratings.txt", log), write(folder / "movie_titles.csv", movies, "latin-1")]


def olist(folder: Path) -> list[Path]:
    """Olist, a marketplace: orders, some cancelled, with users and times; their lines; products without titles."""
    orders = [names("order_id,customer_id,order_status,order_purchase_timestamp,order_approved_at")]
    lines = [names("order_id,order_item_id,product_id,seller_id,price")]
    for number, user, item, moment in events(15):
        order = f"e481f51c-{number // 2:08}"
        if number % 2 == 0:
            status, paid = "canceled" if number % 50 == 0 else "delivered", moment + timedelta(hours=1)
            orders.append([order, f"9ef432eb-{user:08}", status, f"{moment:%F %T}", f"{paid:%F %T}"])
        lines.append([order, 1 + number % 2, f"4244733e-{item:08}", f"48436dad-{item % 7:08}", 58.9 + item])
    products = [names("product_id,product_category_name,product_name_lenght,product_weight_g")]
    products += [[f"4244733e-{item:08}", ("perfumaria", "artes")[item % 2], 40, 225 + item] for item in range(ITEMS)]
    tables = {"orders": orders, "order_items": lines, "products": products}
    return [write(folder / f"olist_{name}_dataset.csv", rows) for name, rows in tables.items()]


def shop(folder: Path) -> list[Path]:
    """A shop's export: semicolons and decimal commas, day and time of day in two columns, guests, refunds."""
    rows = [names("order_no,customer,sku,order_date,order_time,qty,unit_price")]
    for number, user, item, moment in events(14):
        customer, quantity = f"K{1_000 + user}" if number % 5 else "guest", -1 if number % 40 == 7 else 1
        price = f"{item + 1},{item % 9}0"
        rows.append([70_000 + number, customer, f"{item:05}", f"{moment:%d.%m.%Y}", f"{moment:%H:%M}", quantity, price])
    products = [names("sku,product_name,category,color")]
    for item, title in enumerate(TITLES):
        products.append([f"{item:05}", f"{title} für dich", KINDS[item % 4], ("rot", "blau")[item % 2]])
    return [
        write(folder / "orders.csv", rows, delimiter=";"),
        write(folder / "products.csv", products, "cp1252", delimiter=";"),
    ]


LOGS: dict[str, Callable[[Path], list[Path]]] = {
    log.__name__: log
    for log in (
        online_retail,
        steam,
        yelp,
        book_crossing,
        last_fm,
        retail_rocket,
        food_com,
        anime,
        h_and_m,
        kuai_rand,
        instacart,
        multi_category_store,
        netflix,
        olist,
        shop,
    )
}
