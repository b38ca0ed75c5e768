"""Settings of the lens, and the sizes that a saved lens is rebuilt from."""

from typing import Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from reclora_kedro.histories.retrieval import WindowConfig
from reclora_kedro.lens import LENSES
from reclora_kedro.parameters import Block, Count, LearningRate, NonNegative, Seed, Share

StateKind = Literal["target", "user", "fields", "rating_statistics"]
STATE_KINDS: tuple[StateKind, ...] = get_args(StateKind)


class LensConfig(Block):
    """Architecture and training of the lens."""

    model: str = Field(description="name of the lens, one of LENSES")
    training_rows: Literal["all", "few_shot"] = Field(
        description="rows of the training split that it learns from; few_shot: those of the LLM alone"
    )
    recent_length: Count = Field(description="most events of the recent history")
    long_history: WindowConfig = Field(description="the history that sim and twin read")
    rating_statistics: bool = Field(description="whether it reads the rating statistics at a row's moment")
    statistics_delay: NonNegative | Literal["frozen"] = Field(
        description="seconds until those know an event; frozen: they know those up to the last training row alone"
    )
    item_text: bool = Field(
        description="whether it reads item embeddings, and how alike target and history are by them"
    )
    item_text_dropout: Share = Field(description="share of each item's text hidden while training")
    embedding_dim: Count = Field(description="width of each embedding")
    attention_dim: Count = Field(description="hidden width of the attention unit")
    hidden_dim: Count = Field(description="width of each hidden layer, and of the target state")
    hidden_layers: Count = Field(description="hidden layers of the MLP")
    dropout: Share = Field(description="dropout after each hidden layer")
    user_id_dropout: Share = Field(description="share of user ids shown as unknown while training")
    item_id_dropout: Share = Field(description="share of item ids shown as unknown while training")
    field_min_count: Count = Field(description="training users (items) that must share a field value")
    learning_rate: LearningRate = Field(description="AdamW learning rate")
    weight_decay: NonNegative = Field(description="AdamW weight decay")
    batch_size: Count = Field(description="rows per step")
    batch_parts: Count = Field(
        description="parts of a step's rows, each with random masks of its own, that workers share"
    )
    max_epochs: Count = Field(description="most passes over the training rows")
    patience: Count = Field(description="epochs without a better validation AUC before training stops")
    seed: Seed = Field(description="seed of initialisation, shuffling and dropout")
    device: str = Field(description="auto (cuda where there is one, else cpu) or a torch device")

    @field_validator("model")
    @classmethod
    def _known_model(cls, model: str) -> str:
        if model not in LENSES:
            raise ValueError(f"lens.model is {model!r}, which is unknown: choose one of {', '.join(LENSES)}")
        return model

    @model_validator(mode="after")
    def _equal_parts(self) -> Self:
        if self.batch_size % self.batch_parts:
            raise ValueError(
                f"batch_parts is {self.batch_parts}, which does not divide batch_size {self.batch_size}: change one"
            )
        return self


class LensSizes(Block):
    """Sizes of the tables that a lens embeds; widths count the values of one field, values those of all.

    Besides, `item_text_width` is that of the item embeddings, 0 for a lens that does not read them, and `trained_until`
    is the second of the last training sample.
    """

    users: int
    user_fields: tuple[str, ...]
    user_width: int
    user_values: int
    items: int
    item_fields: tuple[str, ...]
    item_width: int
    item_values: int
    item_text_width: int
    rating_levels: int
    trained_until: int
