"""Settings of the retriever, and the sizes that a saved one is rebuilt from."""

from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, model_validator

from kedro_provenance.errors import Fault, Sibling
from kedro_provenance.parameters import Block, Resource
from reclora_kedro.candidates.next_item import RETRIEVER_MODELS
from reclora_kedro.parameters import Count, LearningRate, NonNegative, Seed, Share


class RetrieverConfig(Block):
    """Architecture and training of the retriever."""

    full_softmax_items: ClassVar[int] = 5000  # most items of a loss over all, whose time grows with them
    sampled_items: ClassVar[int] = 4096  # of a loss above, half of them drawn uniformly, half by their events
    average_decay: ClassVar[float] = 0.99  # of the average of weights over steps, which is kept
    validation_rows: ClassVar[int] = 10_000  # likes that choose the epoch: they tell a hit rate of .1 to ±.006

    model: Annotated[str, AfterValidator(RETRIEVER_MODELS.require)]
    item_ids: bool
    item_text: bool
    item_id_dropout: Share
    length: Count
    dim: Count
    layers: Count
    heads: Count
    dropout: Share
    learning_rate: LearningRate
    weight_decay: NonNegative
    batch_size: Count
    batch_parts: Count
    max_epochs: Count
    patience: Count
    seed: Seed
    device: Resource[str]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not (self.item_ids or self.item_text):
            both = "is false, and so is ", Sibling("item_text")
            raise Fault(Sibling("item_ids"), both, "items could not be distinguished", "Set one of them to true")
        if self.batch_size % self.batch_parts:
            whole = f"is {self.batch_parts}, which does not divide ", Sibling("batch_size"), f" {self.batch_size}"
            raise Fault(Sibling("batch_parts"), whole, advice="Change one of them")
        if self.dim % self.heads:
            found = f"is {self.dim}, which {self.heads} heads cannot share"
            raise Fault(Sibling("dim"), found, advice=("Make it a multiple of ", Sibling("heads")))
        return self


class RetrieverSizes(Block):
    """Number of items, and the width of their embeddings, 0 for a retriever that does not read them."""

    items: int
    item_text_width: int
