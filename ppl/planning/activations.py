"""Memory for the backward pass: what autograd keeps of a transformer layer, tensor by tensor, in bytes.

After Korthikanti et al. 2022 (arXiv:2205.05198, §4), whose ``s b h (34 + 5 a s / h)`` is that of GPT's layer with
dropout and stored attention scores. The counts here are those of transformers' layers with fused attention (``sdpa``
or flash: scores are not stored; Dao et al. 2022, arXiv:2205.14135), and are tested against what
``torch.autograd.graph.saved_tensors_hooks`` sees. Layers are taken to train or to carry adapters: frozen ones keep a
little less.
"""

from __future__ import annotations

from dataclasses import dataclass

_FLOAT = 4
"""Bytes of what norms and softmaxes compute in, whatever the precision."""


@dataclass(frozen=True)
class Layer:
    """Sizes of one transformer layer."""

    width: int
    """Of the residual stream."""
    query: int
    """Of all heads' queries together; also of what attention returns."""
    key: int
    """Of all heads' keys together, and of their values; smaller with grouped queries."""
    heads: int
    mlp: int
    mlp_copies: int
    """Tensors of the MLP's width that its activation keeps: 3 of a gated one (gate, its activation, up), 2 of QuickGELU
    (input and sigmoid), 1 of the others."""
    is_rms: bool
    """RMS norms as transformers writes them, which keep an fp32 input and, for their weights, a normalised one; else
    layer norms."""
    lora_rank: int = 0
    """Adapters of all linear layers, which then are frozen as norms are; 0: all of the layer trains."""
    lora_dropout: float = 0.0

    @property
    def readers(self) -> int:
        """Linear layers that read what a norm returns: query, key and value, and the MLP's first one or two."""
        return 5 if self.mlp_copies == 3 else 4


@dataclass(frozen=True)
class Numbers:
    """Bytes of an element, by place."""

    activation: int
    """Of what linear layers return."""
    residual: int
    """Of the residual stream."""
    is_autocast: bool
    """Each linear layer makes its own copy of an input of another precision."""
    mask: int = 1
    """Of dropout's mask: a byte on a GPU, an activation's size on the CPU."""

    @classmethod
    def of(cls, precision: str, weight: int, *, is_fsdp: bool = False, has_adapters: bool = False) -> Numbers:
        """Read them off Lightning's precision.

        Under autocast, adapters make copies beside weights of 16 bits too, for they are in fp32. With ``bf16-mixed``,
        FSDP gathers a block's weights in 16 bits, so that there nothing is copied.

        Args:
            precision: Such as ``bf16-true``, ``bf16-mixed`` or ``32-true``.
            weight: Bytes of a weight.
            is_fsdp: One of the two FSDP strategies.
            has_adapters: LoRA.
        """
        if precision not in ("bf16-mixed", "16-mixed"):
            return cls(weight, weight, False)
        return (
            cls(2, 2, False) if is_fsdp and precision == "bf16-mixed" else cls(2, weight, has_adapters or weight != 2)
        )


def norm_bytes(layer: Layer, numbers: Numbers) -> int:
    """One norm, of one token: its input, its statistics, and of a trained RMS norm the normalised input."""
    if not layer.is_rms:
        return layer.width * numbers.residual + 2 * _FLOAT
    return layer.width * (_FLOAT + (0 if layer.lora_rank else numbers.residual)) + _FLOAT


def layer_bytes(layer: Layer, numbers: Numbers, *, is_padded: bool = False) -> int:
    """One layer, of one token: two norms, inputs of linear layers, attention, the MLP's activation, adapters.

    What a norm returns is kept once for all that read it, but under autocast once for each; dropout before adapters
    gives each of them an input of its own, which replaces the other. Attention keeps query, key, value, result and the
    logarithm of its sums. A mask of padding makes transformers repeat grouped keys to the width of queries.
    """
    width, query, key = layer.width, layer.query, layer.query if is_padded else layer.key
    attention = numbers.activation * (2 * query + 2 * key) + _FLOAT * layer.heads
    if layer.lora_rank and layer.lora_dropout:
        inputs = (layer.readers * width + query + layer.mlp) * (numbers.activation + numbers.mask)
    else:
        inputs = ((layer.readers if numbers.is_autocast else 2) * width + layer.mlp) * numbers.activation
    mlp = numbers.activation * layer.mlp_copies * layer.mlp
    adapters = (layer.readers + 2) * layer.lora_rank * numbers.activation
    return 2 * norm_bytes(layer, numbers) + inputs + attention + mlp + adapters


def temporal_bytes(layer: Layer, numbers: Numbers) -> int:
    """A layer of a BT-Adapter that attends over time, of one patch: a norm, what reads it, attention, a matrix."""
    attention = numbers.activation * 4 * layer.width + _FLOAT * layer.heads
    return norm_bytes(layer, numbers) + 2 * layer.width * numbers.activation + attention


def mask_bytes(length: int, numbers: Numbers) -> int:
    """A mask of padding as one layer keeps it, of one sample: one number for each pair of positions."""
    return length * length * numbers.activation


def stack_bytes(
    layer: Layer, layers: int, lengths: list[int], numbers: Numbers, *, is_checkpointed: bool, is_padded: bool = False
) -> int:
    """All layers over a batch of sequences padded to the longest, and the norm after them.

    With activation checkpointing (Chen et al. 2016, arXiv:1604.06174) every layer keeps only its input, and one layer
    at a time is computed again.

    Args:
        layer: Sizes.
        layers: How many.
        lengths: Positions of each sequence, padding included.
        numbers: Precision.
        is_checkpointed: Whether layers are computed again in the backward pass.
        is_padded: Whether the batch has padding.
    """
    tokens = sum(lengths)
    masks = sum(mask_bytes(length, numbers) for length in lengths) if is_padded else 0
    one = tokens * layer_bytes(layer, numbers, is_padded=is_padded) + masks
    final = tokens * norm_bytes(layer, numbers)
    if is_checkpointed:
        return layers * tokens * layer.width * numbers.residual + one + final
    return layers * one + final


def loss_bytes(tokens: int, labelled: int, vocabulary: int, numbers: Numbers) -> tuple[int, int]:
    """Logits and their loss, as `ppl.functional.losses.next_token_loss` computes it.

    Returns:
        What autograd keeps: the labelled positions' log-probabilities in fp32. And what the step needs besides: the
        logits of every position, and in the backward pass their gradient twice (once for the shift, once for the
        selection of labelled positions), beside the labelled ones' copy, probabilities and gradient in fp32.
    """
    kept = labelled * vocabulary * _FLOAT
    return kept, 3 * tokens * vocabulary * numbers.activation + 3 * kept


def frozen_tower_bytes(layer: Layer, layers: int, tokens: int, numbers: Numbers, *, keeps_states: bool) -> int:
    """A vision tower without gradients over the frames it encodes at a time.

    Args:
        layer: Sizes.
        layers: How many.
        tokens: Of all frames that are encoded at a time.
        numbers: Precision.
        keeps_states: Every layer's output is kept until the last, for one of them is read.
    """
    states = (layers + 1) * layer.width if keeps_states else layer.width
    working = 2 * layer.width + max(layer.query + 2 * layer.key, 2 * layer.mlp)
    return tokens * numbers.activation * (states + working)
