"""What small tables of many shapes mean, told by structure before words."""

import pytest

from public_logs import KINDS, TITLES
from reclora_kedro import api
from reclora_kedro.ingestion.events import TAKEN_NAMES
from reclora_kedro.ingestion.guess import read_raw_tables
from reclora_kedro.ingestion.guess_tables import guess
from reclora_kedro.ingestion.tables import read_tables
from small_logs import ITEMS, SHAPES, day, events, table


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("order", [1, -1], ids=["", "reversed"])
def test_tables_of_many_shapes_mean_what_they_seem_to(name, order, tmp_path):
    shape, questions = SHAPES[name], list[str]()

    def ask(question, answers, guessed):
        questions.append(question)
        return guessed

    found = guess(read_raw_tables(shape.tables(tmp_path)[::order]), ask)
    log, items = found.log, found.items
    assert (log.table.path.name, log.user, log.item, log.times) == (shape.log, shape.user, shape.item, shape.times)
    assert (log.rating, log.clicked, log.drop, log.explode) == (
        shape.rating,
        shape.clicked,
        shape.drop,
        [*shape.explode],
    )
    assert (items and items.table.path.name, items and items.title) == (shape.items, shape.title)
    weights = [(each["from"], each.get("weights", {})) for each in log.columns.values()]
    assert weights == ([(shape.weight, shape.weights)] if shape.weight else [])
    assert not TAKEN_NAMES & log.columns.keys()
    assert bool(questions) == shape.asks
    assert not found.unused


def test_python_makes_lists_of_clicks_of_opinions_and_of_ratings_on_a_slider(tmp_path):
    """Which `new-log` gives settings of their own."""
    for name in ("thumbs", "opinions in words"):
        paths = SHAPES[name].tables(tmp_path)
        assert api.Recommender.fit(*paths).recommend(n=3)["rank"].max() == 3
    named = {"columns": {"rating": None}, "clicked": "liked"}  # said rather than guessed
    marks = ([e.user, e.item, day(e), int(e.stars > 2)] for e in events(2))
    log = table(tmp_path, "marks.csv", "user_id,item_id,timestamp,liked", marks)
    assert api.Recommender.fit(log, **named).recommend(n=3)["rank"].max() == 3
    slider = ([e.user, e.item, e.stars / 5 - e.number % 97 / 1000 - e.number % 7 / 10_000, day(e)] for e in events(3))
    log = table(tmp_path, "slider.csv", "user_id,item_id,score,date", slider)
    assert api.Recommender.fit(log).recommend(n=3)["rank"].max() == 3


def test_python_reads_the_texts_of_items_that_new_log_does(tmp_path):
    rows = ([e.user + 1, e.item, e.stars, int(e.at.timestamp())] for e in events(1))
    log = table(tmp_path, "log.csv", "user_id,item_id,rating,timestamp", rows)
    films = (
        [n, TITLES[n], KINDS[n % 4], f"No {n}", f"{TITLES[n]} steht lange im Garten am Haus" * 2] for n in range(ITEMS)
    )
    items = table(tmp_path, "items.csv", "item_id,title,genre,label,Inhalt", films)
    found = guess(read_raw_tables([log, items]), lambda question, answers, guessed: guessed)
    fields = [{"name": "genre", "column": "genre"}, {"name": "description", "column": "Inhalt"}]
    assert found.items is not None
    assert found.items.fields == fields
    tables = read_tables({"interactions": log, "items": items})
    block = api._usual_columns(tables["interactions"], tables["items"], {})
    assert block is not None
    assert block["items"] == {"item_id": "item_id", "title": "title", "fields": fields}
