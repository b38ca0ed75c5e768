"""Data are the same if their digests are."""

from kedro_provenance.files.digests import digest
from kedro_provenance.parameters import Block


class Prompt(Block):
    max_tokens: int


def test_digests_are_of_values_whatever_holds_them():
    assert digest(Prompt(max_tokens=3)) == digest({"max_tokens": 3}) != digest({"max_tokens": 4})
    assert digest([1, 2]) != digest([2, 1])
    assert digest({"type": object}) == digest({"type": object})
    assert digest({"a": {1: 2}}) != digest({"a": {"1": 2}})
