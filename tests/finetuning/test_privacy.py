"""Users' gradients in noise: what one user can move, what is spent, and when training ends."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from peft import get_peft_model_state_dict
from scipy.special import logsumexp
from torch.optim.optimizer import register_optimizer_step_post_hook

from few_rows import adapter_weights, gates_decide, load_model, training_config, with_new_adapter
from reclora_kedro.distributed.group import Group
from reclora_kedro.finetuning.config import AdapterContinuationConfig, PrivacyConfig, VariantConfig
from reclora_kedro.finetuning.continuation import continue_adapter
from reclora_kedro.finetuning.objectives.click import Clicks
from reclora_kedro.finetuning.privacy import epsilons_after, private_rounds
from reclora_kedro.finetuning.training import train_adapter
from reclora_kedro.llm.batching import TokenBudget

USERS = np.arange(48) // 3  # sixteen users with three rows each
EVERYONE = {"users_per_round": 16, "noise_multiplier": 0.0, "max_epsilon": None}


def private(**settings):
    return PrivacyConfig(kind="user_level_dp", **settings)


def reference_epsilons(rounds, rate, noise, delta):
    """After each round: Rényi divergences of the sampled Gaussian mechanism by their integral (Mironov et al. 2019,
    section 3), turned into epsilon as by Balle et al. 2020, theorem 21."""
    orders = np.array([*np.arange(1.1, 11, 0.1), *range(12, 64)])
    x, step = np.linspace(-60, 150, 40_001, retstep=True)
    mixed = np.logaddexp(np.log1p(-rate) if rate < 1 else -np.inf, math.log(rate) + (2 * x - 1) / (2 * noise**2))
    density = -(x**2) / (2 * noise**2) - math.log(noise * math.sqrt(2 * math.pi))
    spent = [logsumexp(order * mixed + density) + math.log(step) for order in orders] / (orders - 1)
    counts = np.arange(1, rounds + 1)[:, None]
    return (counts * spent + np.log1p(-1 / orders) - (math.log(delta) + np.log(orders)) / (orders - 1)).min(axis=1)


@pytest.mark.parametrize(("rate", "noise"), [(0.2, 1.0), (0.05, 0.8), (1.0, 4.0)])
def test_epsilon_is_that_of_the_sampled_gaussian_mechanism(rate, noise):
    epsilons = epsilons_after(30, rate, private(noise_multiplier=noise))
    np.testing.assert_allclose(epsilons, reference_epsilons(30, rate, noise, 1e-3), rtol=1e-4)


def test_training_ends_before_the_next_round_would_pass_the_greatest_epsilon(caplog):
    config = private(users_per_round=4, noise_multiplier=1.0, max_epsilon=4.0)
    rounds = private_rounds(USERS, 50, config, Group())
    ahead = epsilons_after(len(rounds.steps) + 1, 0.25, config)
    assert ahead[-2] == rounds.epsilons[-1] <= 4.0 < ahead[-1]
    assert f"Training ends after {len(rounds.steps)} of 200 rounds" in caplog.text
    with pytest.raises(ValueError, match=r"16 of 16 users would spend an epsilon of .*max_epsilon is 0\.1: raise"):
        private_rounds(USERS, 1, private(max_epsilon=0.1), Group())
    with pytest.raises(
        ValueError, match=r"delta is 0\.0625, but the few-shot rows are of 16 users: set it below 1 / 16"
    ):
        private_rounds(USERS, 1, private(delta=1 / 16), Group())
    with pytest.raises(ValueError, match=r"an epsilon of inf at delta 0\.001, but .* is 8: raise noise_multiplier"):
        private_rounds(USERS, 1, private(noise_multiplier=0.0), Group())


def test_users_take_part_by_chance_whole_and_never_by_the_seed():
    config = private(users_per_round=4, noise_multiplier=9.0)
    rounds, other = (private_rounds(USERS, 60, config, Group()) for _ in "ab")
    sizes = np.array([len(chosen) for chosen in rounds.steps])
    assert len(sizes) == 240
    assert set(sizes % 3) == {0}
    assert abs(sizes.mean() / 3 - 4) < 5 * math.sqrt(16 * 0.25 * 0.75 / 240)
    assert sizes.std() > 3
    assert [*map(tuple, rounds.steps)] != [*map(tuple, other.steps)]


@pytest.fixture
def adapted(tiny_model):
    """A model with an adapter whose every weight has a gradient, its trained weights, and examples."""
    few_shot = gates_decide(48)
    model = with_new_adapter(tiny_model, few_shot, gate_dropout=0.0, gate_norm="layer")
    with torch.no_grad():
        for name, tensor in adapter_weights(model.model).items():
            tensor += 0.05 * ("reclora_B" in name)
    weights = [weight for weight in model.model.parameters() if weight.requires_grad]
    return model, weights, Clicks(few_shot, USERS)


def clipped_sum(adapted, chosen, group=None, **settings):
    """The sum over users of their clipped gradients, flat."""
    model, weights, examples = adapted
    rounds = private_rounds(USERS, 1, private(**EVERYONE | settings), Group())
    losses = rounds.set_gradients(model, examples, chosen, weights, TokenBudget(400), group or Group())
    return losses, torch.cat([weight.grad.flatten() for weight in weights]) * rounds.users_each


def test_an_adapter_that_may_be_private_begins_with_nothing_of_the_samples(tiny_model):
    fresh = []
    for seed in (0, 1):
        adapted = with_new_adapter(tiny_model, gates_decide(48, seed=seed), gate_norm="layer").model
        fresh.append(get_peft_model_state_dict(adapted))
        adapted.unload()
    assert all(torch.equal(weights, fresh[1][name]) for name, weights in fresh[0].items())


def test_one_users_rows_move_the_sum_by_no_more_than_the_bound(adapted):
    losses, everyone = clipped_sum(adapted, np.arange(48), clipping_norm=1e-3)
    moved = []
    for user in (0, 7, 15):
        rest = np.flatnonzero(user != USERS)
        _, without = clipped_sum(adapted, rest, clipping_norm=1e-3)
        moved.append((everyone - without).norm().item())
    assert max(moved) <= 1e-3 * (1 + 1e-4)
    assert min(moved) > 1e-3 * 0.99  # each user's gradient is longer than the bound
    _, free = clipped_sum(adapted, np.flatnonzero(USERS == 0), clipping_norm=1e9)
    assert free.norm() > 1e-2
    assert losses.shape == (48,)


def test_processes_that_share_the_users_have_the_sum_of_one(adapted):
    losses, whole = clipped_sum(adapted, np.arange(48), clipping_norm=1e-3)
    shares = [SimpleNamespace(rank=rank, size=2, sum=lambda t: t, sum_gradients=lambda _: None) for rank in (0, 1)]
    parts = [clipped_sum(adapted, np.arange(48), group, clipping_norm=1e-3) for group in shares]
    torch.testing.assert_close(parts[0][1] + parts[1][1], whole)
    torch.testing.assert_close(parts[0][0] + parts[1][0], losses)


def test_the_noise_has_the_bound_times_the_multiplier_as_its_deviation(adapted):
    settings = {"noise_multiplier": 3.0, "clipping_norm": 0.5, "users_per_round": 4}
    first, second = (clipped_sum(adapted, np.arange(0), **settings)[1] for _ in "ab")
    assert first.std().item() == pytest.approx(1.5, rel=0.05)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.1


def test_without_noise_and_bound_it_is_plain_training(tiny_llm_folder):
    few_shot, validation, trained = gates_decide(24), gates_decide(24, seed=1), []
    for settings in (
        {"kind": "none"},
        {"kind": "user_level_dp", "clipping_norm": 1e9} | EVERYONE | {"users_per_round": 24},
    ):
        model = with_new_adapter(load_model(tiny_llm_folder), few_shot, gate_dropout=0.0)
        config = training_config(epochs=3, batch_size=24, privacy=settings, rows_per_validation=999)
        log = train_adapter(model, Clicks(few_shot, np.arange(24)), validation, config)
        trained.append((adapter_weights(model.model), log))
    (expected, plain), (weights, log) = trained
    np.testing.assert_allclose(log["train_loss"].to_numpy(), plain["train_loss"].to_numpy(), rtol=1e-4)
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=1e-5)


def test_the_adapter_moves_the_last_weights_stay_and_the_log_says_what_was_spent(tiny_model):
    few_shot, validation, seen = gates_decide(48), gates_decide(24, seed=1), []
    model = with_new_adapter(tiny_model, few_shot)
    before = {name: weights.clone() for name, weights in adapter_weights(model.model).items()}
    settings = {"kind": "user_level_dp", "users_per_round": 1, "noise_multiplier": 1.5, "max_epsilon": 6.0}
    config = training_config(epochs=1, privacy=settings, rows_per_validation=16)  # rounds of no user are likely
    note = register_optimizer_step_post_hook(
        lambda optimizer, *_: seen.append([weight.detach().clone() for weight in optimizer.param_groups[0]["params"]])
    )
    log = train_adapter(model, Clicks(few_shot, USERS), validation, config)
    note.remove()
    kept = [weights for weights in model.model.parameters() if weights.requires_grad]
    assert all(torch.equal(weights, last) for weights, last in zip(kept, seen[-1], strict=True))
    after = adapter_weights(model.model)
    assert all((after[name] - weights).abs().max() > 1e-4 for name, weights in before.items())
    assert log["epsilon"].to_list() == pytest.approx(epsilons_after(16, 1 / 16, config.privacy))
    assert log["delta"].unique().to_list() == [1e-3]
    assert log.height == len(seen) == 16
    assert log["train_loss"].null_count() == (log["rows"].diff().fill_null(log["rows"][0]) == 0).sum()


def test_settings_that_would_break_the_promise_are_refused(adapted, monkeypatch):
    settings = {"history": "recent", "gate_input": "target", "training": training_config(privacy=private())}
    with pytest.raises(ValueError, match=r"would also hold means of .* set adapter\.gate_norm to layer"):
        VariantConfig(**settings, adapter={"gate_norm": "standard"})
    for allowed in ({"gate_norm": "layer"}, {"num_meta_loras": 1}):
        VariantConfig(**settings, adapter=allowed)
    config = AdapterContinuationConfig.model_construct()
    with pytest.raises(ValueError, match=r"further, because training\.privacy accounts for only one training: set"):
        continue_adapter(adapted[0], None, None, None, config, settings["training"])
    private().require_ready()
    monkeypatch.setattr("reclora_kedro.finetuning.config.find_spec", lambda _: None)
    assert not training_config().privacy.require_ready()
    with pytest.raises(ImportError, match=r"needs Opacus, .*`pip install 'opacus>="):
        private().require_ready()
