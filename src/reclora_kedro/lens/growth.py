"""Growth of a trained lens: new users and items, and training on new samples."""

import copy
from functools import partial

import numpy as np
import polars as pl
import torch
from torch import Tensor
from torch.nn import functional

from kedro_provenance.errors import MismatchError
from reclora_kedro.devices import choose_device, seeded
from reclora_kedro.distributed.engine import LOCAL, EngineConfig, train_together
from reclora_kedro.distributed.group import Group
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.lens.base import Lens
from reclora_kedro.lens.config import ContinuationConfig
from reclora_kedro.lens.features import LensLoader, encode_fields, numbers_of, seen_in
from reclora_kedro.lens.training import TRAINING_LOG, LensTraining, Passes


def grow_lens(lens: Lens, log: InteractionLog) -> Lens:
    """Extend a lens to a log with more users and items, which must follow those of the lens.

    Until they are trained, new ids are the unknown id, and new field values are ignored. Scores of samples without
    anything new are the same to the last bit if the log's events keep their rating levels (`levels_as_before`) and its
    items their embeddings. MismatchError if it has fewer users or items than the lens, or see `rearrange_lens`.
    """
    log.require_grown(lens.sizes.users, "users", "lens")
    log.require_grown(lens.sizes.items, "items", "lens")
    users, items = torch.arange(log.users.height), torch.arange(log.items.height)
    users, items = users.masked_fill(users >= lens.sizes.users, -1), items.masked_fill(items >= lens.sizes.items, -1)
    return rearrange_lens(lens, log, users, items)


def rearrange_lens(lens: Lens, log: InteractionLog, users: Tensor, items: Tensor) -> Lens:
    """Return a frozen lens with its tables in the order of another log; only dropped users and items are forgotten.

    `users` and `items` have the index in the lens of each one of the log, or -1 for a new one: int64, shape (count,).
    MismatchError if the log lacks fields that the lens reads, or has other rating levels.
    """
    sizes, levels = lens.sizes, int(log.sequences.rating_level.max(initial=0)) + 1
    if levels > sizes.rating_levels:
        remedy = "build the log with the levels of the one that the lens was trained on"
        found = f"The log has {levels} rating levels, but the lens knows {sizes.rating_levels}"
        raise MismatchError(f"{found}: {remedy}.", "log", "lens")
    lens = copy.deepcopy(lens)
    user_codes, item_codes = encode_fields(log.users, sizes.user_fields), encode_fields(log.items, sizes.item_fields)
    lens.user.rearrange(users, user_codes, numbers_of(log.users, sizes.user_numbers))
    texts = torch.from_numpy(log.item_text_vectors()) if lens.config.item_text else None
    lens.item.rearrange(items, item_codes, numbers_of(log.items, sizes.item_numbers), texts)
    if lens.config.co_occurrence_folds:
        lens.user_folds = lens.user_folds[users].masked_fill(users < 0, 0)  # nobody's vectors know a new user's likes
        lens.co_occurrences = functional.pad(lens.co_occurrences, (0, 0, 1, 0))[:, 1 + items]
    widths = {"user_width": user_codes.shape[-1], "item_width": item_codes.shape[-1]}
    lens.sizes = sizes.model_copy(update={"users": len(users), "items": len(items), **widths})
    return lens.freeze()


def continue_lens(
    lens: Lens,
    log: InteractionLog,
    config: ContinuationConfig,
    engine: EngineConfig = LOCAL,
    is_new: np.ndarray | None = None,
) -> tuple[Lens, pl.DataFrame]:
    """Grow a lens, see `grow_lens`, and train it further on new training samples.

    An epoch has all new samples and a fresh draw of old ones, against forgetting. Users and items get vectors of their
    own with their first training sample. The grown lens is kept as it is if no epoch improves the validation AUC, or if
    there are no new samples or none to validate on. `is_new` says which samples are new, shape (samples,); None for
    those later than the last training sample. The frozen lens is on the CPU; the first row of the training log is the
    grown lens before training, and the log is empty if it was not trained. MismatchError is raised as by `grow_lens`,
    and ShardError if the workers failed.
    """
    lens = grow_lens(lens, log)
    if is_new is None:
        is_new = (log.samples["timestamp"] > lens.sizes.trained_until).to_numpy()
    if not is_new[log.rows_in("train")].any() or log.samples_in("validation", "label")["label"].n_unique() < 2:
        return lens, pl.DataFrame(schema=TRAINING_LOG)
    # The parts of its steps are those that it was first trained with, whatever `lens.batch_parts` is by now.
    engine = engine.model_copy(update={"workers": min(engine.workers, lens.config.batch_parts)})
    return train_together(partial(_continue, lens, log, config, is_new), engine, "train the lens further")


def _continue(
    lens: Lens, log: InteractionLog, config: ContinuationConfig, is_new: np.ndarray, group: Group
) -> tuple[Lens, pl.DataFrame]:
    train = log.rows_in("train")
    seconds = log.samples["timestamp"].to_numpy()[train]
    new, old = train[is_new[train]], train[~is_new[train]]
    with seeded(lens.config.seed, choose_device(lens.config.device)):
        learner = copy.deepcopy(lens).requires_grad_(True)
        # Frozen statistics are then those of new rows' own moments, as they were of old ones when the lens was fitted.
        learner.sizes = lens.sizes.model_copy(update={"trained_until": int(seconds.max())})
        for entity, index in ((learner.user, "user_index"), (learner.item, "item_index")):
            entity.learn_ids(seen_in(log.samples[index].gather(train), len(entity.id_codes)))
        replayed = min(len(old), round(len(new) * config.replay / (1 - config.replay)))
        training = LensTraining(learner, LensLoader(log, learner), config.learning_rate, group)
        passes = Passes(new, config.max_epochs, replay=old, replayed=replayed)
        training_log = training.run(passes, config.patience, keep_start=True)
    if training_log["validation_auc"].arg_max() == 0:
        return lens, training_log
    return learner.cpu().freeze(), training_log
