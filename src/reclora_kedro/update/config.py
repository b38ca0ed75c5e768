"""Settings of updates, and of the forgetting of users."""

from typing import ClassVar

from pydantic import Field

from kedro_provenance.parameters import Block, Private
from reclora_kedro.parameters import Id, NonNegative, Positive, Real


class ExaminationConfig(Block):
    """Thresholds of the alarms of new interactions."""

    # Floors below which a share or an AUC says little, and a false alarm would stop an update.
    user_rows: ClassVar[int] = 1000  # of one user with an alarm
    fall_rows: ClassVar[int] = 500  # of a group with an AUC, which is then known to about ±.05
    new_users: ClassVar[int] = 20  # of an item or a burst
    item_share: ClassVar[float] = 0.5  # of an item's users, above which new ones may be there to lift it
    turned: ClassVar[int] = 100  # known ratings that become likes, or dislikes
    turned_share: ClassVar[float] = 0.8  # of them in one direction, which honest corrections don't have
    accounts_share: ClassVar[float] = 0.2  # of a group's accounts, at most, that are taken out for the rest to pass

    rate_change: ClassVar[float] = 0.05  # of an item's like rate by new accounts
    top: ClassVar[int] = 50  # items by likes, into which new accounts may lift one from beyond twice its rank

    user_share: Real = Field(gt=0, lt=1)
    fall: NonNegative


class PromotionConfig(Block):
    """Conditions under which a challenger replaces the current model."""

    level: ClassVar[float] = 0.05  # of the one-sided test over draws of users, as is usual for non-inferiority
    # Most test rows of the current model's log that do not train; they tell an AUC to about ±.02.
    held_out: ClassVar[int] = 2000

    margin: NonNegative
    half_life_days: Positive


class ForgetConfig(Block):
    """Users to forget, and whether to erase and retrain."""

    users: Private[tuple[Id, ...]]
    erase: bool
    retrain: bool
    lens: bool
