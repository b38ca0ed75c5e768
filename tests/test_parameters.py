import pytest
from pydantic import ValidationError

from kedro_provenance.parameters import Block


class Inner(Block):
    size: int


class Outer(Block):
    inner: Inner
    name: str = "any"


def test_a_block_takes_the_keys_that_it_knows():
    assert Outer(inner={"size": 3}) == Outer(inner=Inner(size=3), name="any")


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"inner": {"size": 1}, "nane": "x"}, "nane"),
        ({"inner": {"size": 1, "sizes": 2}}, r"inner\.sizes"),
        ({"inner": {}}, r"inner\.size"),
        ({"inner": {"size": "three"}}, r"inner\.size"),
    ],
    ids=["misspelt", "misspelt inside", "missing", "of another type"],
)
def test_any_other_key_or_value_is_refused_by_its_path(settings, key):
    with pytest.raises(ValidationError, match=rf"(?m)^{key}$"):
        Outer(**settings)


def test_a_block_is_read_only():
    block = Outer(inner={"size": 3})
    with pytest.raises(ValidationError, match="frozen"):
        block.name = "other"
    with pytest.raises(ValidationError, match="frozen"):
        block.inner.size = 4
