"""What small tables of many shapes mean, told by structure before words."""

import pytest

from reclora_kedro.ingestion.events import TAKEN_NAMES
from reclora_kedro.ingestion.guess import read_raw_tables
from reclora_kedro.ingestion.guess_tables import guess
from small_logs import SHAPES


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
