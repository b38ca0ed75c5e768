import pytest

from kedro_provenance.errors import MismatchError
from reclora_kedro.errors import require_both_classes


def test_a_mismatch_says_what_was_found_and_names_what_to_make_again():
    error = MismatchError("a and b are of different runs.", "a", "b")
    assert isinstance(error, ValueError)
    assert str(error) == "a and b are of different runs."
    assert error.entries == ("a", "b")
    assert MismatchError("no entry is to blame").entries == ()


@pytest.mark.parametrize(("likes", "rows", "least"), [(1, 2, 1), (1, 100, 1), (99, 100, 1), (2, 4, 2), (3, 7, 3)])
def test_enough_rows_of_both_classes_are_taken(likes, rows, least):
    require_both_classes(likes, rows, "here", "Do more", least)


@pytest.mark.parametrize(
    ("likes", "rows", "least"), [(0, 0, 1), (0, 5, 1), (5, 5, 1), (1, 4, 2), (3, 4, 2), (2, 3, 2), (7, 9, 3)]
)
def test_too_few_rows_of_a_class_are_refused(likes, rows, least):
    with pytest.raises(ValueError, match="here") as refusal:
        require_both_classes(likes, rows, "here", "Do more", least)
    assert str(refusal.value) == (
        f"here has {likes} of {rows} rows that are liked (label 1): expected at least {least} liked and {least} "
        "disliked. Do more."
    )


def test_one_row_of_each_class_is_enough_unless_more_are_asked_for():
    require_both_classes(1, 2, "here", "Do more")
    with pytest.raises(ValueError, match="expected at least 1 liked and 1 disliked"):
        require_both_classes(2, 2, "here", "Do more")
