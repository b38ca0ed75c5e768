"""SASRec over texts with HLLM's loss; tests/candidates/next_item has what each installed retriever keeps to."""

import pytest
import torch

from named import PARAMETERS
from reclora_extras.text_sasrec.retriever import TextSasRec
from reclora_kedro.candidates.next_item.base import require_retriever
from reclora_kedro.candidates.next_item.config import RetrieverConfig, RetrieverSizes
from reclora_kedro.candidates.next_item.sasrec import SasRec


def config(**settings):
    return RetrieverConfig(**PARAMETERS["retriever"] | {"model": "text_sasrec"} | settings)


def test_without_texts_it_is_refused():
    with pytest.raises(ValueError, match=r"set retriever\.item_text to true"):
        require_retriever(config(item_text=False))


def test_scores_are_sasrecs_cosines_over_the_temperature():
    torch.manual_seed(0)
    settings = config(item_text=True, item_ids=False)
    retriever = TextSasRec(settings, RetrieverSizes(items=9, item_text_width=6)).eval()
    retriever.texts.normal_()
    items = torch.arange(9)
    with torch.no_grad():
        events = retriever.item_vectors(items)[None]
        scores = retriever(events)[0] @ retriever.item_vectors(items).T
        states, vectors = SasRec.forward(retriever, events)[0], SasRec.item_vectors(retriever, items)
    expected = torch.cosine_similarity(states[:, None], vectors[None], dim=-1) / 0.07
    torch.testing.assert_close(scores, expected)
