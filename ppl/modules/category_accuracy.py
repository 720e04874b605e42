"""Means by category, over batches and processes: of which answers are right, or of their marks.

Axes: b samples.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, distributed
from torchmetrics import MeanMetric


class CategoryAccuracy:
    """A torchmetrics mean for each category; categories need not appear in every batch or on every rank."""

    def __init__(self) -> None:
        self._means: dict[str, MeanMetric] = {}
        self._device = torch.device("cpu")

    def update(self, categories: list[str], correct: Bool[Tensor, " b"] | Float[Tensor, " b"]) -> None:
        """Add one batch, of answers that are right or wrong, or of their marks."""
        self._device = correct.device
        places: dict[str, list[int]] = {}
        for category, place in zip(categories, range(len(correct)), strict=True):
            places.setdefault(category, []).append(place)
        for category, chosen in places.items():
            self._mean(category).update(correct[chosen].float())

    def compute(self) -> dict[str, float]:
        """Mean of each category, and their unweighted mean as ``mean``; then start over."""
        names = set(self._means)
        if distributed.is_available() and distributed.is_initialized():
            gathered: list[set[str]] = [set()] * distributed.get_world_size()
            distributed.all_gather_object(gathered, names)
            names = set().union(*gathered)
            for name in names - self._means.keys():  # every process takes part in every mean
                self._mean(name).update(torch.empty(0, device=self._device))
        shares = {name: self._mean(name).compute().item() for name in sorted(names)}
        self._means.clear()
        return shares | ({"mean": sum(shares.values()) / len(shares)} if shares else {})

    def _mean(self, category: str) -> MeanMetric:
        # a loss that is no number must show; so disabled, torchmetrics 1.9 takes no notice of weights either
        return self._means.setdefault(category, MeanMetric(nan_strategy="disable").to(self._device))
