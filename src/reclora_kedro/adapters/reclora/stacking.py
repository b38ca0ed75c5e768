"""How much a score listens to the lens and to the LLM, by how much is known of item and user."""

import torch
from torch import Tensor, nn


class Stacking(nn.Module):
    """A logistic regression of two logits (stacked generalisation: Wolpert, Neural Networks, 1992).

    Its inputs are the lens's logit, the LLM's, the logarithms of the numbers of events of the item and of the user
    (standardised, as the lens reads them), and the products of these two with the LLM's logit, so that a score may
    listen to the text where the log says little. ``weights``, shape (7,), are the intercept and theirs; until they are
    fitted, both logits weigh one half.
    """

    weights: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weights", torch.tensor([0.0, 0.5, 0.5, 0.0, 0.0, 0.0, 0.0]))

    def fit(self, lens_logits: Tensor, llm_logits: Tensor, log_counts: Tensor | None, labels: Tensor) -> None:
        """Learn from rows that neither the lens nor the adapter, nor the choice of its checkpoint, has seen.

        Args:
            lens_logits: shape (rows,).
            llm_logits: shape (rows,).
            log_counts: of item and user, shape (rows, 2).
            labels: 1 for a like, shape (rows,).

        Raises:
            ValueError: there are no counts.
        """
        from sklearn.linear_model import LogisticRegression  # workers that only score start seconds sooner without it

        regression = LogisticRegression().fit(_inputs(lens_logits, llm_logits, log_counts).cpu(), labels.cpu())
        learned = [*regression.intercept_, *regression.coef_[0]]
        self.weights.copy_(torch.tensor(learned, dtype=self.weights.dtype))

    def forward(self, lens_logits: Tensor, llm_logits: Tensor, log_counts: Tensor | None) -> Tensor:
        """Logits of a like, shape (rows,); for the arguments, and what is raised, see :meth:`fit`."""
        weights = self.weights.to(llm_logits)
        return weights[0] + _inputs(lens_logits, llm_logits, log_counts) @ weights[1:]


def _inputs(lens_logits: Tensor, llm_logits: Tensor, log_counts: Tensor | None) -> Tensor:
    if log_counts is None:
        raise ValueError(
            "Stacking (lens_in_score: stacked) weighs two logits by the numbers of events of item and user, but these "
            "were not given: set lens.rating_statistics to true."
        )
    counts = log_counts.to(llm_logits)
    return torch.column_stack([lens_logits.to(llm_logits), llm_logits, counts, counts * llm_logits.unsqueeze(-1)])
