from dataclasses import replace

import polars as pl

from random_logs import USERS, log_of
from reclora_kedro.history.records import prompt_records
from reclora_kedro.history.retrieval import WindowConfig

ITEMS = pl.DataFrame(
    {
        "item_id": [3, 5, 8, 13, 21],
        "title": ["A", "B", "C", "D", "E"],
        "genres": ["Comedy", None, "Drama, War", None, None],
    }
)
INTERACTIONS = pl.DataFrame(
    {
        "user_id": ["ann", "ann", "ann", "bob"],
        "item_id": [3, 5, 8, 21],
        "timestamp": [1, 2, 3, 4],
        "rating": [4.0, 2.5, 5.0, 1.0],
        "label": [1, 0, 1, 0],
    }
)
ROWS = pl.DataFrame({"row": [2, 3], "use": ["few_shot", "test"], "label": [1, 0]}, schema_overrides={"row": pl.UInt32})


def records(users: pl.DataFrame = USERS) -> list[dict]:
    log = replace(log_of(INTERACTIONS), items=ITEMS, users=users)
    rows = ROWS.join(log.samples.drop("label"), on="row", maintain_order="left")
    return prompt_records(rows, log, log.histories(rows, WindowConfig(kind="recent", k=2)))


def test_a_record_tells_who_saw_what_and_is_asked_about_what():
    assert records() == [
        {
            "row": 2,
            "use": "few_shot",
            "label": 1,
            "user": {"gender": "F"},
            "history": [
                {"title": "A", "genres": "Comedy", "rating": 4, "liked": True},
                {"title": "B", "rating": 2.5, "liked": False},
            ],
            "target": {"title": "C", "genres": "Drama, War"},
        },
        {"row": 3, "use": "test", "label": 0, "user": {}, "history": [], "target": {"title": "E"}},
    ]


def test_users_without_profile_fields_have_empty_profiles():
    assert [record["user"] for record in records(USERS.select("user_id"))] == [{}, {}]
