import numpy as np
import polars as pl
import pytest

from reclora_kedro.histories.item_text import describe_items, principal_components


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


@pytest.mark.parametrize(("shape", "components", "kept"), [((9, 6), 4, 4), ((3, 6), 4, 3), ((9, 2), 4, 2)])
def test_as_many_components_as_there_can_be(shape, components, kept):
    embeddings = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    reduced = principal_components(embeddings, components, seed=1)
    assert reduced.shape == (shape[0], kept)
    assert reduced.dtype == np.float32
    np.testing.assert_allclose(reduced.mean(0), 0, atol=1e-6)


def test_components_are_the_directions_of_greatest_variance():
    embeddings = np.random.default_rng(0).normal(size=(50, 6)) * [9, 1, 5, 1, 1, 1]
    centred = embeddings - embeddings.mean(0)
    expected = np.linalg.svd(centred)[1][:2]
    reduced = principal_components(embeddings, 2, seed=1)
    np.testing.assert_allclose(np.linalg.norm(reduced, axis=0), expected, rtol=1e-5)


def test_components_lie_in_row_order_as_safetensors_needs_them():
    reduced = principal_components(np.random.default_rng(0).normal(size=(50, 6)), 3, seed=1)
    assert reduced.flags.c_contiguous
