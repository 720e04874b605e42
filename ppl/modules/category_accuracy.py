"""Accuracy by category, over batches and processes."""

from __future__ import annotations

from collections import defaultdict

import torch
from jaxtyping import Bool
from torch import Tensor, distributed


class CategoryAccuracy:
    """Count right answers per category; categories need not appear in every batch or on every rank."""

    def __init__(self) -> None:
        self._counts: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])

    def update(self, categories: list[str], correct: Bool[Tensor, " b"]) -> None:
        """Add one batch."""
        for category, is_right in zip(categories, correct.tolist(), strict=True):
            counts = self._counts[category]
            counts[0] += is_right
            counts[1] += 1

    def compute(self) -> dict[str, float]:
        """Share of right answers by category, and their unweighted mean as ``mean``; then start over."""
        gathered: list[dict[str, list[int]] | None] = [dict(self._counts)]
        if distributed.is_available() and distributed.is_initialized():
            gathered = [None] * distributed.get_world_size()
            distributed.all_gather_object(gathered, dict(self._counts))
        self._counts.clear()
        totals: defaultdict[str, torch.Tensor] = defaultdict(lambda: torch.zeros(2, dtype=torch.int64))
        for counts in gathered:
            for category, pair in (counts or {}).items():
                totals[category] += torch.tensor(pair)
        shares = {category: (right / seen).item() for category, (right, seen) in sorted(totals.items())}
        return shares | ({"mean": sum(shares.values()) / len(shares)} if shares else {})
