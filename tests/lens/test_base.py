"""Lenses as files, and the cosines that they read."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from damaging import damaged_folders
from reclora_kedro.history.co_occurrences import COMPONENTS, co_occurrence_vectors
from reclora_kedro.lens.base import load_lens
from reclora_kedro.lens.features import LensLoader, fresh_lens
from reclora_kedro.lens.states import lens_scores, lens_states
from reclora_kedro.sealed import DIGESTS


def test_a_saved_lens_scores_identically(fitted, log, tmp_path) -> None:
    lens, _ = fitted
    lens.save(tmp_path)
    loaded = load_lens(tmp_path)
    states, states_again = (lens_states(each, log, log.samples[:50]) for each in (lens, loaded))
    assert states.keys() == states_again.keys()
    assert all(torch.equal(state, states_again[kind]) for kind, state in states.items())
    np.testing.assert_array_equal(lens_scores(states), lens_scores(states_again))
    assert not any(module.training for module in loaded.modules())
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_a_lens_saved_with_what_is_constant_now_loads_if_it_has_the_same_values(fit, tmp_path) -> None:
    lens, _ = fit("din")
    lens.save(tmp_path)
    (tmp_path / DIGESTS).unlink()  # which earlier releases did not write
    file = tmp_path / "lens.json"
    settings = json.loads(file.read_text())
    for attention_dim in (16, 32):
        saved = settings | {"lens": settings["lens"] | {"attention_dim": attention_dim, "hidden_layers": 2}}
        file.write_text(json.dumps(saved))
        if attention_dim == 16:
            assert load_lens(tmp_path).config == lens.config
        else:
            with pytest.raises(
                ValueError, match=r"trained with attention_dim 32, but attention_dim is always 16 now: train"
            ):
                load_lens(tmp_path)


def test_a_saved_lens_is_two_files_that_hold_all_of_it_and_their_digests(fitted, tmp_path) -> None:
    lens, _ = fitted
    lens.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"lens.json", "lens.safetensors", DIGESTS}
    settings = json.loads((tmp_path / "lens.json").read_text())
    assert settings == {"lens": lens.config.model_dump(), "sizes": json.loads(lens.sizes.model_dump_json())}
    loaded = load_lens(tmp_path)
    assert (loaded.config, loaded.sizes) == (lens.config, lens.sizes)
    for name, tensor in lens.state_dict().items():
        assert loaded.state_dict()[name].dtype == tensor.dtype
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_weights_of_another_lens_are_refused(fitted, tmp_path) -> None:
    fitted[0].save(tmp_path)
    weights = load_file(tmp_path / "lens.safetensors")
    del weights["output.weight"]
    save_file(weights, tmp_path / "lens.safetensors")
    (tmp_path / DIGESTS).unlink()
    with pytest.raises(ValueError, match=r"lens\.safetensors is damaged or of another model .*output\.weight"):
        load_lens(tmp_path)


@pytest.mark.parametrize("is_sealed", [True, False])
def test_a_damaged_lens_is_refused_with_the_name_of_the_file(fit, tmp_path, is_sealed) -> None:
    """Without digests, as an earlier release has left it, all is found that cannot be another lens."""
    (tmp_path / "lens").mkdir()
    fit("din")[0].save(tmp_path / "lens")
    if not is_sealed:
        (tmp_path / "lens" / DIGESTS).unlink()
    for file, folder in damaged_folders(tmp_path / "lens", tmp_path / "damaged", flips=is_sealed):
        if is_sealed and not (folder / DIGESTS).exists():
            continue  # the same lens, as of an earlier release
        with pytest.raises(ValueError, match=rf"The lens cannot be loaded: .*{re.escape(file)}.* Restore it, or train"):
            load_lens(folder)


@pytest.fixture
def batch_of(log):
    """The training samples as a batch for a lens."""
    return lambda lens: next(LensLoader(log, lens).batches(log.samples.filter(split="train"), 10_000))[1]


@pytest.mark.parametrize("model", ["din", "sim"])
def test_one_fold_compares_by_all_likes_as_the_encoder_of_items_does(log, config, batch_of, model) -> None:
    vectors = co_occurrence_vectors(log, COMPONENTS, seed=config.seed)
    by_encoder, _ = fresh_lens(
        log.with_embeddings(vectors), config.model_copy(update={"model": model, "co_occurrence_folds": 0})
    )
    one, _ = fresh_lens(log, config.model_copy(update={"model": model, "item_text": False, "co_occurrence_folds": 1}))
    batch = batch_of(one)
    torch.testing.assert_close(one.eval().cosines(batch), by_encoder.eval().cosines(batch))


def test_who_liked_a_target_is_hidden_with_its_id_while_a_lens_learns(log, config, batch_of) -> None:
    lens, _ = fresh_lens(log, config.model_copy(update={"item_id_dropout": 0.5, "item_text_dropout": 0.0}))
    batch = batch_of(lens)
    shown = lens.eval().cosines(batch)
    vectors = lens.item(batch.item)
    lens.train().hide_items()
    hidden = lens.item.hidden[batch.item]
    assert 0 < hidden.sum() < len(hidden)
    shown[hidden, 4:] = 0  # behind those of the texts
    assert torch.equal(lens.cosines(batch), shown)
    ids = slice(config.embedding_dim)
    unknown = lens.item.ids.weight[0]
    assert torch.equal(lens.item(batch.item)[~hidden], vectors[~hidden])
    assert torch.equal(lens.item(batch.item)[hidden, ids], unknown.expand(int(hidden.sum()), -1))
