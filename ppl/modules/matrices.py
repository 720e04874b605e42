"""Weights that inputs are multiplied with: what operations are counted by."""

from __future__ import annotations

from torch import Tensor, nn


def matrices(module: nn.Module) -> list[Tensor]:
    """Weights of every product with a matrix: linear layers, and the projections that torch's attention stacks."""
    found = [m.weight for m in module.modules() if isinstance(m, nn.Linear)]
    return [*found, *_stacked(module)]


def matrix_elements(module: nn.Module, *, trained: bool = False) -> int:
    """Elements of those weights; with ``trained``, of those that train. Quantised ones count as what they stand for."""
    linears = [m for m in module.modules() if isinstance(m, nn.Linear) and (m.weight.requires_grad or not trained)]
    stacked = [weight for weight in _stacked(module) if weight.requires_grad or not trained]
    return sum(m.in_features * m.out_features for m in linears) + sum(weight.numel() for weight in stacked)


def _stacked(module: nn.Module) -> list[Tensor]:
    found = [m.in_proj_weight for m in module.modules() if isinstance(m, nn.MultiheadAttention)]
    return [weight for weight in found if weight is not None]
