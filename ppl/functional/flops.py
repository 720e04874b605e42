"""How much a sample computes: floating-point operations, counted as two for each multiply-add.

Only products of matrices are counted (Kaplan et al. 2020, arXiv:2001.08361, §2.1; Hoffmann et al. 2022,
arXiv:2203.15556, appendix F): norms, activations, rotary angles, softmaxes and pooling are below one per cent.
Attention is counted in full, as ``torch.utils.flop_counter`` does, also where it is causal: a kernel that skips the
masked half computes less.

A backward pass computes the gradients of inputs, as many operations as forward, and those of the weights that train.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Counts(NamedTuple):
    """What was computed in some steps."""

    tokens: int
    """Text and visual tokens through the language model, padding left out; passes without gradients do not count."""
    positions: int
    """The same with padding."""
    flops: int
    """Operations forward and backward; activation checkpointing's second forward pass is no work done."""


@dataclass(frozen=True)
class Work:
    """Operations of one stage of one sample."""

    linear: int = 0
    """Forward: inputs times weights."""
    attention: int = 0
    """Forward: queries times keys, and their softmax times values."""
    trained: int = 0
    """Of ``linear``, that with weights that train."""
    has_gradient: bool = False
    """Something trains here, or before and gets its gradient through here."""

    @property
    def forward(self) -> int:
        """All of the forward pass."""
        return self.linear + self.attention

    @property
    def backward(self) -> int:
        """Gradients of inputs (both operands, for attention) and of trained weights."""
        return self.trained + (self.linear + 2 * self.attention if self.has_gradient else 0)

    def __add__(self, other: Work) -> Work:
        """Two parts of one stage, which a gradient passes or does not pass together."""
        return Work(
            self.linear + other.linear,
            self.attention + other.attention,
            self.trained + other.trained,
            self.has_gradient or other.has_gradient,
        )


def linear_work(tokens: int, weights: int, trained: int = 0, *, before: bool = False) -> Work:
    """Tokens times matrices: ``2 N`` operations a token (Kaplan et al.'s ``C = 2 N``).

    Args:
        tokens: Vectors that are multiplied.
        weights: Elements of the matrices that each of them is multiplied with.
        trained: Of those, elements that train.
        before: Something that trains lies before.
    """
    return Work(2 * tokens * weights, 0, 2 * tokens * trained, before or trained > 0)


def attention_work(queries: int, keys: int, width: int, layers: int, *, has_gradient: bool = False) -> Work:
    """Scores and weighted sums: ``4 q k w`` operations a layer, for q queries, k keys and heads of width w in all."""
    return Work(0, 4 * queries * keys * width * layers, 0, has_gradient)


def patch_embedding_work(patches: int, patch_size: int, width: int, *, trains: bool = False) -> Work:
    """Pixels of three colours times the kernel of the first convolution; a gradient stops here."""
    linear = 2 * patches * 3 * patch_size**2 * width
    return Work(linear, 0, linear if trains else 0)
