"""Tell pooled tokens where they came from: position features added to patches before pooling.

Axes: *b none, or media of equal shape | t h w frames, rows, columns | c channels.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ppl.functional.positions import grid_positions


class GridPositions(nn.Module):
    """Add a fixed encoding of (frame, row, column) to every patch.

    Pooling averages values, so a weighted sum of position features is the attended centroid: it tells where and when
    in its window the relevant patches were. A tower's own position table tells the place within a frame, not the time.
    Relevance is computed before, from the bare patches.

    The encoding is a fixed random projection of sines and cosines; it has no weights to train or to store.

    Args:
        scale: Root mean square of the encoding, relative to that of the patches it is added to.
        features: Sines and cosines before the projection; a multiple of 6.
        max_half_waves: Half waves of the highest frequency over an axis; keep it below the patches of an axis.
        seed: Of the random projection.
    """

    def __init__(self, scale: float = 1.0, features: int = 24, max_half_waves: float = 4.0, seed: int = 0) -> None:
        super().__init__()
        self.scale = scale
        self.features = features
        self.max_half_waves = max_half_waves
        self.seed = seed

    def forward(self, grid: Float[Tensor, "*b t h w c"]) -> Float[Tensor, "*b t h w c"]:
        """Return the grid with positions added."""
        channels = grid.shape[-1]
        generator = torch.Generator().manual_seed(self.seed)
        projection = (
            torch.randn(self.features, channels, generator=generator, dtype=torch.float32) * (2 / self.features) ** 0.5
        )
        size = (grid.shape[-4], grid.shape[-3], grid.shape[-2])
        waves = grid_positions(size, self.features, max_half_waves=self.max_half_waves, device=grid.device)
        encoding = waves @ projection.to(grid.device)
        magnitude = grid.detach().float().square().mean(dim=(-4, -3, -2, -1), keepdim=True).sqrt()
        return grid + (self.scale * magnitude * encoding).to(grid.dtype)
