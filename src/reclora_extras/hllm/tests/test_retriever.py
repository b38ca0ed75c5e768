"""HLLM as a retriever; tests/retrievers has what each installed retriever keeps to."""

import pytest

from bad_parameters import PARAMETERS
from reclora_kedro.candidates.next_item.base import require_retriever
from reclora_kedro.candidates.next_item.config import RetrieverConfig


def test_without_texts_it_is_refused():
    config = RetrieverConfig(**PARAMETERS["retriever"] | {"model": "hllm", "item_text": False})
    with pytest.raises(ValueError, match=r"set retriever\.item_text to true"):
        require_retriever(config)
