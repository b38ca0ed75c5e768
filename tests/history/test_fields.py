import polars as pl

from reclora_kedro.history.fields import describe_items


def test_absent_fields_are_left_out_of_a_description():
    items = pl.DataFrame(
        {
            "item_id": [1, 2, 3],
            "title": ["Up", "Heat", "M"],
            "genres": ["Comedy", None, None],
            "first_author": ["x", "y", None],
        }
    )
    assert describe_items(items) == ["Up. genres: Comedy. first author: x", "Heat. first author: y", "M"]


def test_braces_in_texts_are_plain_text():
    assert describe_items(pl.DataFrame({"item_id": [1], "title": ["{}"], "genres": ["{title}"]})) == [
        "{}. genres: {title}"
    ]


def test_items_without_text_fields_are_described_by_their_title():
    assert describe_items(pl.DataFrame({"item_id": [1], "title": ["Up"]})) == ["Up"]
