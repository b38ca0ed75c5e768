"""Settings of the lens, and the sizes that a saved lens is rebuilt from."""

from collections.abc import Collection
from typing import Annotated, ClassVar, Literal, NamedTuple, Self, get_args

from pydantic import AfterValidator, Field, model_validator

from kedro_provenance.parameters import Block, Resource
from reclora_kedro.history.retrieval import WindowConfig
from reclora_kedro.lens import LENS_MODELS
from reclora_kedro.parameters import Count, CountOrZero, LearningRate, NonNegative, Seed, Share

StateKind = Literal["target", "user", "fields", "rating_statistics"]
MOST_FOLDS = 10  # a lens holds vectors of all items for each fold
STATE_KINDS: tuple[StateKind, ...] = get_args(StateKind)

FIELD = "field:"  # prefix of the kinds of state that indicate the values of a field
MOST_VALUES = 64  # maximum number of values of a field with such a state; fields with more values do not group samples
GateInput = StateKind | Annotated[str, Field(pattern=f"^{FIELD}.+$")]  # kinds of state that gates may read


def require_field(gate_input: str, fields: Collection[str]) -> None:
    """Raise ValueError for a gate input ``field:<name>`` of a field that no table has.

    Examples:
        >>> require_field("field:genre", ["genres"])
        Traceback (most recent call last):
        ...
        ValueError: gate_input is 'field:genre', but users and items have the fields genres: name one of these.
    """
    if gate_input.startswith(FIELD) and gate_input.removeprefix(FIELD) not in fields:
        raise ValueError(
            f"gate_input is {gate_input!r}, but users and items have the fields {', '.join(fields)}: name one of these."
        )


class LensConfig(Block):
    """Architecture and training of the lens."""

    # The size of a lens varies by embedding_dim and hidden_dim, which is enough to make it too small or too large.
    attention_dim: ClassVar[int] = 16  # hidden width of the attention unit
    hidden_layers: ClassVar[int] = 2  # layers of the MLP
    validation_rows: ClassVar[int] = 200_000  # that choose the epoch: they tell an AUC to ±.002, at a bounded cost

    model: Annotated[str, AfterValidator(LENS_MODELS.require)]
    training_rows: Literal["all", "few_shot"]
    retrieved_negatives: CountOrZero = 0
    recent_length: Count
    long_history: WindowConfig
    rating_statistics: bool
    statistics_delay: NonNegative | Literal["frozen"]
    item_text: bool
    item_text_dropout: Share
    co_occurrence_folds: Annotated[CountOrZero, Field(le=MOST_FOLDS)] = 0
    embedding_dim: Count
    hidden_dim: Count
    dropout: Share
    user_id_dropout: Share
    item_id_dropout: Share
    field_min_count: Count
    learning_rate: LearningRate
    weight_decay: NonNegative
    batch_size: Count
    batch_parts: Count
    max_epochs: Count
    max_rows: Count = 10_000_000
    patience: Count
    seed: Seed
    device: Resource[str]

    @model_validator(mode="after")
    def _equal_parts(self) -> Self:
        if self.batch_size % self.batch_parts:
            raise ValueError(
                f"batch_parts is {self.batch_parts}, which does not divide batch_size {self.batch_size}: change one"
            )
        return self


class ContinuationConfig(Block):
    """Settings of the incremental training of a lens."""

    patience: ClassVar[int] = 1  # epochs: further passes do not help, see docs/results/lifelong.md

    replay: Share
    learning_rate: LearningRate
    max_epochs: Count


class EntitySizes(NamedTuple):
    """Sizes of the tables of users (or items)."""

    rows: int
    fields: int
    width: int  # most values of one field in one row
    values: int  # distinct ones of all fields together
    text_width: int = 0  # 0: no texts
    numbers: int = 0


class LensSizes(Block):
    """Sizes of a lens's tables, and the scales of its inputs.

    Fields list the values with a code, in the order of their codes; widths are the most values that one row holds of
    one field. `item_text_widths` are the widths of the item embeddings by encoder, empty for a lens that does not read
    them; `rating_range`, the lowest and the highest rating at the first training, stays the scale of its statistics;
    `trained_until` is the second of its last training sample. Of what a log declares, `user_numbers` and `item_numbers`
    are fields, and `event_numbers` and `event_values` columns of the events of histories; the latter has the codes, in
    ascending order, that get a vector.
    """

    users: int
    user_fields: dict[str, tuple[str, ...]]
    user_width: int
    items: int
    item_fields: dict[str, tuple[str, ...]]
    item_width: int
    item_text_widths: tuple[int, ...]
    rating_levels: int
    rating_range: tuple[float, float]
    trained_until: int
    user_numbers: tuple[str, ...] = ()
    item_numbers: tuple[str, ...] = ()
    event_numbers: tuple[str, ...] = ()
    event_values: dict[str, tuple[int, ...]] = Field(default={})

    @property
    def of_users(self) -> EntitySizes:
        values = sum(map(len, self.user_fields.values()))
        return EntitySizes(self.users, len(self.user_fields), self.user_width, values, 0, len(self.user_numbers))

    @property
    def of_items(self) -> EntitySizes:
        fields, numbers, text_width = self.item_fields, len(self.item_numbers), sum(self.item_text_widths)
        values = sum(map(len, fields.values()))
        return EntitySizes(self.items, len(fields), self.item_width, values, text_width, numbers)
