"""Layers that lenses share: embeddings by index, pooling, target attention."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from reclora_kedro.layers import INITIAL_EMBEDDING_STD, embedding_table
from reclora_kedro.lens.config import EntitySizes

FARTHEST = 5.0
UNKNOWN_ID = 0  # the code that all users (items) outside the training split share


class EntityEmbedding(nn.Module):
    """Embeds users (or items) by index: the id's own vector, one per categorical field, and one of the text, if any.

    A field with several values is the mean of their vectors; a field without any is zero. In training, a share of ids
    is replaced by the unknown id, so that later users (items) find a trained vector there. The code tables and the
    texts' vectors are buffers, which a saved lens contains.
    """

    id_codes: Tensor
    field_codes: Tensor
    texts: Tensor
    numbers: Tensor

    def __init__(self, sizes: EntitySizes, embedding_dim: int, id_dropout: float, text_dropout: float = 0.0) -> None:
        super().__init__()
        count, fields, width, values, text_width, numbers = sizes
        self.register_buffer("id_codes", torch.full((count,), UNKNOWN_ID))
        self.register_buffer("field_codes", torch.zeros(count, fields, width, dtype=torch.long))
        self.ids = embedding_table(1 + count, embedding_dim)
        self.values = embedding_table(1 + values, embedding_dim)
        self.id_dropout = id_dropout
        self.output_dim = (1 + fields) * embedding_dim
        if text_width:
            self.register_buffer("texts", torch.zeros(count, text_width))
            self.of_text = nn.Linear(text_width, embedding_dim, bias=False)
            nn.init.normal_(self.of_text.weight, std=INITIAL_EMBEDDING_STD)
            self.output_dim += embedding_dim
        if numbers:
            self.register_buffer("numbers", torch.zeros(count, numbers))  # standardised
            self.of_numbers = MeasuredNumbers(numbers, embedding_dim)
            self.output_dim += self.of_numbers.output_dim
        self.text_width, self.text_dropout, self.number_count = text_width, text_dropout, numbers
        self.hidden: Tensor | None = None  # ids that the unknown id replaces, bool (count,); None to draw them by index
        self.table: Tensor | None = None

    def knows(self, index: int) -> bool:
        """Return whether a user (item) has a vector of its own."""
        return bool(self.id_codes[index] != UNKNOWN_ID)

    def tabulate(self) -> None:
        """Precompute the vectors of all users (items); the weights must not change afterwards."""
        self.table = self(torch.arange(len(self.id_codes), device=self.id_codes.device))

    @torch.no_grad()
    def rearrange(
        self, source: Tensor, field_codes: Tensor, numbers: Tensor | None = None, texts: Tensor | None = None
    ) -> None:
        """Reorder the tables for other users (items), the i-th of which had index `source[i]`, or is new (-1).

        `source` is int64, (count,). The new tables have shapes (count, fields, width) and, if these are read, (count,
        numbers) and (count, text_width).
        """
        has_id = (source >= 0) & (self.id_codes[source] != UNKNOWN_ID)
        self.id_codes = torch.arange(1, 1 + len(source)).masked_fill(~has_id, UNKNOWN_ID)
        self.field_codes = field_codes
        rows = functional.pad(1 + source, (1, 0), value=UNKNOWN_ID)  # a new one's is the unknown one's, too
        self.ids = nn.Embedding.from_pretrained(self.ids.weight[rows])
        if numbers is not None:
            self.numbers = self.of_numbers.standardise(numbers)
        if texts is not None:
            self.texts = texts

    @torch.no_grad()
    def learn_ids(self, seen: Tensor) -> None:
        """Give seen users (items), bool (count,), ids of their own, with copies of the unknown id's vector."""
        codes = 1 + (seen & (self.id_codes == UNKNOWN_ID)).nonzero().squeeze(1)
        self.ids.weight[codes] = self.ids.weight[UNKNOWN_ID].clone()
        self.id_codes[codes - 1] = codes

    def forward(self, index: Tensor) -> Tensor:
        """Return the vectors of the users (items) with these indices: (…, output_dim)."""
        if self.table is not None:
            return functional.embedding(index, self.table)
        id_codes = self.id_codes[index]
        if self.training:
            if self.hidden is None:
                hidden = torch.rand(id_codes.shape, device=id_codes.device) < self.id_dropout
            else:
                hidden = self.hidden[index]
            id_codes = id_codes.masked_fill(hidden, UNKNOWN_ID)
        parts = [self.ids(id_codes)]
        if self.field_codes.shape[1]:
            parts.append(self._fields(index))
        if self.text_width:
            parts.append(self.of_text(functional.dropout(self.texts[index], self.text_dropout, self.training)))
        if self.number_count:
            parts.append(self.of_numbers.embed(self.numbers[index]))
        return torch.cat(parts, dim=-1) if len(parts) > 1 else parts[0]

    def _fields(self, index: Tensor) -> Tensor:
        codes = self.field_codes[index]
        if codes.shape[-1] == 1:  # nothing to average, which takes several times as long
            fields = self.values(codes) * (codes > 0).unsqueeze(-1)
        else:
            fields = functional.embedding_bag(codes.flatten(0, -2), self.values.weight, mode="mean", padding_idx=0)
        return fields.view(*index.shape, -1)


class NumericFields(nn.Module):
    """Embeds numbers as fields: each, standardised, times a vector of its own (as in AutoInt, equation 4).

    Means and scales are buffers, 0 and 1 until :meth:`fit`.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, count: int, embedding_dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("scale", torch.ones(count))
        self.vectors = embedding_table(count, embedding_dim)
        self.output_dim = count * embedding_dim

    def fit(self, numbers: Tensor) -> None:
        """Set means and scales from numbers of shape (samples, count)."""
        self.mean.copy_(numbers.mean(dim=0))
        spread = numbers.std(dim=0, correction=0)
        self.scale.copy_(torch.where(spread > 0, spread, 1.0))

    def standardise(self, numbers: Tensor) -> Tensor:
        return (numbers - self.mean) / self.scale

    def forward(self, numbers: Tensor) -> Tensor:
        """Return the vectors of numbers, concatenated: (…, count) to (…, output_dim)."""
        return self.embed(self.standardise(numbers))

    def embed(self, standardised: Tensor) -> Tensor:
        return (standardised.unsqueeze(-1) * self.vectors.weight).flatten(-2)

    def fold(self, weight: Tensor) -> Tensor:
        """Convert a weight of the vectors, (rows, output_dim), to one of the standardised numbers, (rows, count)."""
        return (weight.unflatten(1, self.vectors.weight.shape) * self.vectors.weight).sum(dim=-1)


class MeasuredNumbers(NumericFields):
    """Numbers as data have them: missing ones (NaN) are the mean, and outliers at most `FARTHEST` scales from it."""

    def fit(self, numbers: Tensor) -> None:
        for place, column in enumerate(numbers.T):
            known = column[~column.isnan()]
            if len(known):
                self.mean[place], spread = known.mean(), known.std(correction=0)
                self.scale[place] = spread if spread > 0 else 1.0

    def standardise(self, numbers: Tensor) -> Tensor:
        return super().standardise(numbers).nan_to_num(0.0).clamp(-FARTHEST, FARTHEST)


SIMILARITIES = ("greatest", "mean", "mean of the three greatest", "mean of the last five")
"""Columns that `summarise` returns."""


def summarise(similarities: Tensor, mask: Tensor) -> Tensor:
    """Return `SIMILARITIES` of targets and their unmasked events, zero without any: (batch, length) to (batch, 4).

    Examples:
        >>> summarise(torch.tensor([[0.9, 0.0, 0.1, 0.1, 0.2, 0.2, 0.8]]), torch.arange(7)[None] < 6)
        tensor([[0.9000, 0.2500, 0.4333, 0.1200]])
    """
    count = mask.sum(dim=1)
    top = similarities.masked_fill(~mask, -torch.inf).topk(min(3, mask.shape[1]), dim=1).values
    top = top.where(top.isfinite(), 0.0)
    last = mask & (mask.cumsum(dim=1) > count.unsqueeze(1) - 5)
    mean, mean_of_last = ((similarities * mean_weights(counted)).sum(dim=1) for counted in (mask, last))
    return torch.stack([top[:, 0], mean, top.sum(dim=1) / count.clamp(1, 3), mean_of_last], dim=1)


def shared(events: Tensor) -> Tensor:
    """Return events as a factor of matrix products, without copies if all samples share one row of them."""
    return events[0] if len(events) == 1 else events


def mean_pool(events: Tensor, mask: Tensor) -> Tensor:
    """Average the unmasked events, zero without any: (batch, length, dim) to (batch, dim)."""
    return weighted_sum(mean_weights(mask), events)


def weighted_sum(weights: Tensor, events: Tensor) -> Tensor:
    """Sum events by weights, (batch, length) and (batch or 1, length, dim): (batch, dim)."""
    return (weights.unsqueeze(1) @ shared(events)).squeeze(1)


def products(events: Tensor, target: Tensor) -> Tensor:
    """Return inner products of events and targets, (batch or 1, length, dim) and (batch, dim): (batch, length)."""
    return (events[0] @ target.T).T if len(events) == 1 else (events @ target.unsqueeze(-1)).squeeze(-1)


def mean_weights(mask: Tensor) -> Tensor:
    """Return equal weights of the unmasked events, which sum to one unless there are none: (batch, length)."""
    return mask / mask.sum(dim=-1, keepdim=True).clamp(min=1)


class TargetAttention(nn.Module):
    """Attention of a target item over events, after DIN (Zhou et al. 2018), but with weights that sum to one.

    Weights are a masked softmax over an MLP of (target, event, target ∘ event) with one hidden layer and ReLU. The
    paper's equation 3 has no softmax, so that its sum reflects the intensity of an interest, and PReLU or Dice. An
    event starts with its item's vector, which is as wide as the target's. Masked events have weight zero; a history
    without events gives a zero vector.
    """

    def __init__(self, target_dim: int, event_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.target_dim = target_dim
        # One linear layer over (target, event, target ∘ item), in three: the target's part is the same for
        # all events of a sample and need not be computed, or copied, for each.
        self.of_target = nn.Linear(target_dim, hidden_dim)
        self.of_event = nn.Linear(event_dim, hidden_dim, bias=False)
        self.of_product = nn.Linear(target_dim, hidden_dim, bias=False)
        self.score = nn.Linear(hidden_dim, 1)

    def forward(self, target: Tensor, events: Tensor, mask: Tensor) -> Tensor:
        """Pool events (batch or 1, length, event_dim) for targets (batch, target_dim): (batch, event_dim)."""
        return weighted_sum(self.weights(target, events, mask), events)

    def weights(self, target: Tensor, events: Tensor, mask: Tensor) -> Tensor:
        """Return the attention weights of events, which sum to one unless there are none: (batch, length)."""
        if len(events) == 1:
            return masked_softmax(self._of_shared(target, events[0]), mask.T, dim=0).T
        return masked_softmax(self._of_own(target, events), mask, dim=1)

    def _of_own(self, target: Tensor, events: Tensor) -> Tensor:
        # W (target ∘ item) = (W diag(target)) item: both parts that see an event are one matrix per sample, which is
        # smaller than the events are.
        of_product = self.of_product.weight * target.unsqueeze(1)
        of_product = functional.pad(of_product, (0, events.shape[-1] - self.target_dim))
        of_both = (self.of_event.weight + of_product).transpose(1, 2)
        hidden = torch.baddbmm(self.of_target(target).unsqueeze(1), events, of_both)
        return self.score(torch.relu(hidden)).squeeze(-1)

    def _of_shared(self, target: Tensor, events: Tensor) -> Tensor:
        # W (target ∘ item) = (W diag(item)) target: one matrix per event, and one product of all with all targets. Its
        # layout is (hidden, length, batch), in which sums over the hidden width and over events are fast.
        of_product = self.of_product.weight.unsqueeze(1) * events[:, : self.target_dim]
        of_both = (self.of_target.weight.unsqueeze(1) + of_product).flatten(0, 1)
        of_event = (self.of_event(events) + self.of_target.bias).T
        hidden = torch.addmm(of_event.reshape(-1, 1), of_both, target.T).relu_()
        return (self.score.weight @ hidden.view(len(of_event), -1)).view(len(events), -1) + self.score.bias


def masked_softmax(scores: Tensor, mask: Tensor, dim: int) -> Tensor:
    """Return the softmax over the unmasked events, which are along `dim`; zero without any."""
    # A finite fill keeps an empty history free of NaN; the second mask makes its weights zero.
    return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=dim) * mask


def recency(mask: Tensor, limit: int) -> Tensor:
    """Return the number of events after each one, at most `limit` - 1: shape (batch, length).

    Examples:
        >>> recency(torch.tensor([[True, True, True], [True, False, False]]), limit=2)
        tensor([[1, 1, 0],
                [0, 0, 0]])
    """
    after = mask.sum(dim=1, keepdim=True) - 1 - torch.arange(mask.shape[1], device=mask.device)
    return after.clamp(0, limit - 1)
