"""What an adapter learns from: clicks, and preferences beside references."""

import math
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from few_rows import adapter_weights, gates_decide, load_model, training_config, with_new_adapter
from kedro_provenance.errors import MismatchError
from reclora_extras.objectives.preferences import Pairs, Preference, joint_margins, pair_rows
from reclora_kedro.distributed.checkpoints import CheckpointStore
from reclora_kedro.distributed.group import Group
from reclora_kedro.finetuning.privacy import set_gradients
from reclora_kedro.finetuning.training import fine_tune, train_adapter
from reclora_kedro.llm.batching import TokenBudget

MARGINS = st.floats(-20, 20)
PREFERENCE = Preference(references=["lens"])


def rows_of(prompts, users=4):
    """The questions of prompts, a minute apart."""
    count = len(prompts.rows)
    return pl.DataFrame(
        {
            "row": prompts.rows,
            "user_index": np.arange(count) % users,
            "timestamp": np.arange(count) * 60,
            "label": prompts.labels,
        }
    )


def paired(model, prompts):
    """Preferences of the prompts beside a lens that knows nothing."""
    return PREFERENCE.pairs(model, prompts, rows_of(prompts), 400)


def example_losses(margins, references, beta, labels=None):
    """Losses of examples with two prompts whose logits differ by the margins."""
    count = len(margins)
    labels = np.ones(count) if labels is None else labels
    examples = Pairs(gates_decide(2 * count), labels=labels, references=np.asarray(references), beta=beta)
    logits = torch.stack([torch.as_tensor(margins) + 3.0, torch.full((count,), 3.0, dtype=torch.float64)], 1)
    return examples.dpo_losses(logits.flatten(), labels, np.arange(count))


def test_with_one_reference_the_loss_is_trls(monkeypatch):
    from trl.trainer.dpo_trainer import DPOTrainer

    random = np.random.default_rng(0)
    logps, references = random.normal(size=(2, 6, 2)) * 3  # of pairs, the first preferred
    beta, seen = 0.7, []
    outputs = SimpleNamespace(log_probs=torch.from_numpy(logps.T.reshape(-1, 1)))
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=True),
        accelerator=SimpleNamespace(device="cpu"),
        aux_loss_enabled=False,
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type="reverse_kl",
        loss_types=["sigmoid"],
        loss_weights=[1.0],
        beta=beta,
        use_weighting=False,
    )
    inputs = {
        "input_ids": torch.ones(12, 2, dtype=torch.long),
        "completion_mask": torch.tensor([[0, 1]] * 12),
        "ref_chosen_logps": torch.from_numpy(references[:, 0].copy()),
        "ref_rejected_logps": torch.from_numpy(references[:, 1].copy()),
    }
    mean = torch.Tensor.mean
    monkeypatch.setattr(torch.Tensor, "mean", lambda losses, *axes: seen.append(losses) or mean(losses, *axes))
    with pytest.raises(AttributeError, match="entropy"):  # logged once the loss is there, of a whole model
        DPOTrainer._compute_loss(trainer, lambda **_: outputs, inputs, return_outputs=False)
    margins = [pairs[:, 0] - pairs[:, 1] for pairs in (logps, references)]
    torch.testing.assert_close(example_losses(*margins, beta), seen[0], atol=1e-6, rtol=0)


@given(st.lists(st.tuples(MARGINS, MARGINS, st.floats(0, 1)), min_size=1, max_size=5), st.floats(0.01, 2))
def test_the_loss_of_a_pair_is_dpos_with_smoothed_labels(pairs, beta):
    margins, references, labels = np.array(pairs).T
    expected = [
        -label * math.log(1 / (1 + math.exp(-beta * (d - ref))))
        - (1 - label) * math.log(1 / (1 + math.exp(beta * (d - ref))))
        for d, ref, label in pairs
    ]
    np.testing.assert_allclose(example_losses(margins, references, beta, labels), expected, atol=1e-9)


def test_without_weight_the_references_are_forgotten():
    margins = torch.tensor([2.0, -1.0], dtype=torch.float64, requires_grad=True)
    for references in ([0.0, 0.0], [5.0, -3.0]):
        losses = example_losses(margins, references, beta=1e-7)
        torch.testing.assert_close(losses, torch.full_like(losses, math.log(2)), atol=1e-6, rtol=0)
        (gradient,) = torch.autograd.grad(losses.sum(), margins)
        torch.testing.assert_close(gradient, torch.full_like(gradient, -1e-7 / 2), atol=1e-13, rtol=0)


REFERENCES = st.lists(MARGINS, min_size=2, max_size=4)
log_sigmoid = torch.nn.functional.logsigmoid


@given(REFERENCES, st.floats(0, 3), st.booleans())
def test_references_are_joined_by_the_formula_of_mrpo(margins, clip, fixed):
    count, total = len(margins), sum(map(abs, margins))
    shares = [abs(margin) / total for margin in margins] if total else [1 / count] * count
    if fixed:
        shares = [2 * (place + 1) / count / (count + 1) for place in range(count)]
    logs = {sign: [-math.log1p(math.exp(-sign * margin)) for margin in margins] for sign in (1, -1)}
    means = {sign: -sum(logs[sign]) / count for sign in logs}
    expected = 0.0
    for sign in logs:
        anchor, near = logs[sign][0], clip * means[sign] / (means[1] + means[-1])
        clipped = [min(max(log, anchor * (1 + near)), anchor * (1 - near)) for log in logs[sign]]
        expected -= sign * math.log(sum(share / math.exp(log) for share, log in zip(shares, clipped, strict=True)))
    weights = [place + 1.0 for place in range(count)] if fixed else None
    joint = joint_margins(np.array(margins)[:, None], clip, weights)
    assert joint.item() == pytest.approx(expected, abs=1e-7)


@given(MARGINS, MARGINS, st.floats(0, 1))
def test_the_authors_code_gives_each_of_two_references_the_share_of_the_other_one(anchor, other, clip):
    """Its alpha is the confidence of the reference that it clips, but multiplies 1 / p of the anchor."""
    anchors, others = (log_sigmoid(torch.tensor([margin, -margin], dtype=torch.float64)) for margin in (anchor, other))
    alpha = abs(other) / (abs(anchor) + abs(other) + 1e-9)
    means = ((anchors + others) / 2).abs()
    near = clip * means / means.sum()
    clipped = others.maximum(anchors * (1 + near)).minimum(anchors * (1 - near))
    mixed = torch.stack([clipped + math.log(alpha + 1e-12), anchors + math.log(1 - alpha + 1e-12)]).logsumexp(0)
    joint = clipped + anchors - mixed
    shares = [alpha + 1e-12, 1 - alpha + 1e-12]
    expected = joint_margins(np.array([[anchor], [other]]), clip, shares).item()
    assert (joint[0] - joint[1]).item() == pytest.approx(expected, abs=1e-6)


@given(REFERENCES, st.floats(0, 9))
def test_references_that_agree_are_one_and_without_a_range_the_anchor_decides(margins, clip):
    one = np.array(margins)
    np.testing.assert_allclose(joint_margins(np.stack([one] * 3), clip), one, atol=1e-9)
    np.testing.assert_allclose(joint_margins(one[:, None], 0), one[:1], atol=1e-9)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30), st.integers(0, 1)), max_size=12), st.integers(0, 9))
def test_rows_of_one_user_are_paired_with_the_nearest_of_the_other_kind(rows, days):
    columns = {"user_index": pl.Int32, "timestamp": pl.Int64, "label": pl.Int8}
    questions = pl.DataFrame(rows, schema=columns, orient="row").with_columns(pl.col("timestamp") * 86_400)
    pairs = pair_rows(questions, days)
    assert len({*map(tuple, pairs)}) == len(pairs)
    apart = {}
    for liked, other in pairs:
        assert (rows[liked][0], rows[liked][2], rows[other][2]) == (rows[other][0], 1, 0)
        apart[liked] = min(apart.get(liked, 99), abs(rows[liked][1] - rows[other][1]))
        apart[other] = min(apart.get(other, 99), abs(rows[liked][1] - rows[other][1]))
    for place, (user, day, label) in enumerate(rows):
        others = [abs(day - at) for of, at, kind in rows if of == user and kind != label and abs(day - at) <= days]
        assert apart.get(place) == min(others, default=None)


def test_pairs_teach_what_only_the_gates_know_and_splitting_a_step_keeps_its_gradient(tiny_model):
    few_shot = gates_decide(96)
    routed = {"composition": "sum_of_products", "target_modules": ["o_proj", "down_proj"], "gate_dropout": 0.0}
    adapted = with_new_adapter(tiny_model, few_shot, **routed)
    examples = paired(adapted, few_shot)
    log = train_adapter(adapted, examples, few_shot, training_config(epochs=8))
    assert log["rows"].to_list()[:2] == [16, 32]  # of eight pairs each
    assert log["train_loss"][-8:].mean() < log["train_loss"][:8].mean() - 0.1
    assert log["validation_auc"].max() > 0.75
    weights = [weights for weights in adapted.model.parameters() if weights.requires_grad]
    gradients = []
    for budget in (10, 10_000):
        losses = set_gradients(adapted, examples, np.arange(7), weights, TokenBudget(budget), Group())
        gradients.append([losses, *(weight.grad for weight in weights)])
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-4)


class EndingStore(CheckpointStore):
    """A store after whose second checkpoint the run ends."""

    def save(self, step, *parts):
        if step == 3:
            raise KeyboardInterrupt
        return super().save(step, *parts)


def test_preferences_go_on_from_a_checkpoint(tiny_llm_folder, tmp_path):
    few_shot, validation, trained = gates_decide(32), gates_decide(24, seed=1), []
    config = training_config(epochs=1, rows_per_checkpoint=16)
    for stores in ([None], [EndingStore(tmp_path, "pairs"), CheckpointStore(tmp_path, "pairs")]):
        for store in stores:
            model = with_new_adapter(load_model(tiny_llm_folder), few_shot)
            try:
                train_adapter(model, paired(model, few_shot), validation, config, store)
            except KeyboardInterrupt:
                continue
        trained.append(adapter_weights(model.model))
    assert all(torch.equal(trained[0][name], weights) for name, weights in trained[1].items())


def test_examples_are_held_against_the_references_in_their_order(tiny_model):
    few_shot = gates_decide(24)
    few_shot.gate_inputs.lens_logits.copy_(torch.arange(24.0))
    alone, questions = tiny_model.all_llm_logits(few_shot, 400, ""), rows_of(few_shot)
    adapted = with_new_adapter(tiny_model, few_shot)
    other = pl.DataFrame({"row": few_shot.rows, "logit": np.arange(24.0) * -2})

    def margins(*references, logits=()):
        return Preference(references=references).pairs(adapted, few_shot, questions, 400, *logits).references

    pairs = pair_rows(questions, 30)
    lens = np.subtract(*pairs.T.astype(float))
    np.testing.assert_allclose(margins("lens"), lens)
    np.testing.assert_allclose(margins("untrained"), np.subtract(*alone[pairs].T), atol=1e-6)
    np.testing.assert_allclose(margins("other", logits=[other]), -2 * lens)
    joint = joint_margins(np.array([-2 * lens, lens]), clip=0.1)
    np.testing.assert_array_equal(margins("other", "lens", logits=[other]), joint)
    with pytest.raises(
        MismatchError, match=r"The reference other has no logit for \d+ of 2\d few-shot rows \(the first is row \d"
    ):
        margins("other", logits=[other.head(5)])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"references": ["lens", "untrained", "lens"]}, "references names lens twice"),
        ({"reference_weights": [0.0]}, r"1 weights with the sum 0, but there are 1 references: give each one"),
        ({"references": ["lens", "untrained"], "reference_weights": [1.0]}, "1 weights .* are 2 references"),
    ],
)
def test_references_and_weights_that_do_not_go_together_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Preference(**values)


def test_few_shot_rows_without_a_pair_are_refused(tiny_model):
    few_shot = gates_decide(8)
    with pytest.raises(ValueError, match=r"within 30 days, but the 8 few-shot rows of 8 users have none: raise"):
        PREFERENCE.pairs(tiny_model, few_shot, rows_of(few_shot, users=8), 400)


@pytest.mark.slow
@pytest.mark.usefixtures("forked_groups")
def test_two_processes_share_pairs_and_their_users(tiny_llm_folder):
    few_shot, trained = gates_decide(32), []
    pairs = Pairs(few_shot, np.arange(16) // 3, labels=np.ones(16), references=np.zeros(16))
    everyone = {"kind": "user_level_dp", "users_per_round": 6, "noise_multiplier": 0.0, "max_epsilon": None}
    for processes in (1, 2):
        model = with_new_adapter(load_model(tiny_llm_folder), few_shot, gate_dropout=0.0)
        config = training_config(epochs=3, processes=processes, privacy=everyone | {"clipping_norm": 0.01})
        log = fine_tune(model, pairs, gates_decide(24, seed=1), config)
        trained.append(adapter_weights(model.model))
        assert log["rows"].to_list() == [32, 64, 96]
    for name, weights in trained[0].items():
        torch.testing.assert_close(trained[1][name], weights, rtol=1e-3, atol=1e-4)
