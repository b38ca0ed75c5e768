"""Caser: convolutions over the recent history as an image (Tang and Wang 2018, arXiv 1809.07426)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from reclora_kedro.lens.base import Lens, LensBatch
from reclora_kedro.lens.config import LensConfig, LensSizes
from reclora_kedro.lens.layers import recency

HEIGHTS = (2, 3, 4)  # events under a horizontal filter
HORIZONTAL_FILTERS = 16  # of each height
VERTICAL_FILTERS = 4


class Caser(Lens):
    """Horizontal filters detect short patterns, vertical ones weigh events by recency."""

    def __init__(self, config: LensConfig, sizes: LensSizes) -> None:
        super().__init__(config, sizes)
        self.horizontal = nn.ModuleList(nn.Conv1d(self.event_dim, HORIZONTAL_FILTERS, h) for h in HEIGHTS)
        self.vertical = nn.Embedding(config.recent_length, VERTICAL_FILTERS)
        nn.init.normal_(self.vertical.weight, std=config.recent_length**-0.5)
        sequence_dim = len(HEIGHTS) * HORIZONTAL_FILTERS + VERTICAL_FILTERS * self.event_dim
        user_dim = self.user.output_dim + sequence_dim
        self.build_head(user_dim + self.item.output_dim + self.numeric_dim, user_dim)

    def user_state(self, batch: LensBatch) -> Tensor:
        """Return the user's fields and the filters' outputs over the recent history."""
        mask = batch.recent_history.mask
        events = self.embed_events(batch.recent_history) * mask.unsqueeze(-1)
        channels = events.transpose(1, 2)
        features = []
        for height, convolution in zip(HEIGHTS, self.horizontal, strict=True):
            # One value per event, of the window that ends there; before the first stands nothing.
            windows = torch.relu(convolution(functional.pad(channels, (height - 1, 0))))
            features.append((windows * mask.unsqueeze(1)).amax(dim=-1))
        weights = self.vertical(recency(mask, len(self.vertical.weight))) * mask.unsqueeze(-1)
        features.append((weights.transpose(1, 2) @ events).flatten(1))
        return torch.cat([self.user(batch.user), *features], dim=-1)
