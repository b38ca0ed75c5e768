"""The models, as they are built, saved and loaded."""

import pytest
import torch

from cycle_log import catalogue_scores
from reclora_kedro.candidates.next_item.base import load_retriever
from reclora_kedro.candidates.next_item.reader import RetrieverReader
from reclora_kedro.devices import seeded


def test_a_state_depends_on_no_later_event(fitted):
    retriever, _ = fitted
    vectors = retriever.item_vectors(torch.tensor([[3, 4, 5, 6, 7], [3, 4, 5, 17, 2]]).flatten()).view(2, 5, -1)
    states = retriever(vectors)
    torch.testing.assert_close(states[0, :3], states[1, :3], rtol=0, atol=0)
    assert not torch.allclose(states[0, 3], states[1, 3])
    torch.testing.assert_close(retriever(vectors[:1, :3])[0], states[0, :3])


def test_a_loaded_retriever_scores_the_same_to_the_last_bit(fitted, log, tmp_path):
    retriever, _ = fitted
    retriever.save(tmp_path)
    loaded, test = load_retriever(tmp_path), log.samples.filter(split="test")
    assert loaded.config == retriever.config
    assert (
        catalogue_scores(RetrieverReader(loaded, log), test) == catalogue_scores(RetrieverReader(retriever, log), test)
    ).all()


def test_ids_are_hidden_in_training_alone_and_never_all_there_is(fitted, config):
    retriever, _ = fitted
    items = torch.arange(20)
    shown = retriever.item_vectors(items)
    assert shown.equal(retriever.item_vectors(items))
    retriever.train()
    with seeded(0, torch.device("cpu")):
        hidden = (retriever.item_vectors(items) != shown).any(dim=1)
    retriever.eval()
    assert 0 < hidden.sum() < 20


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "sasrecs"}, "choose one of gru4rec, sasrec, two_tower"),
        ({"item_ids": False, "item_text": False}, "items could not be distinguished"),
        ({"heads": 3}, "dim is 16, which 3 heads cannot share"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(config, changes, message):
    with pytest.raises(ValueError, match=message):
        type(config)(**config.model_dump() | changes)
