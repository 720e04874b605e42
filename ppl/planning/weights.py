"""In how many bytes each strategy keeps, gathers and steps each weight, read from a model on the meta device.

What each strategy makes of a weight is what `ppl.strategies` and Lightning's precision plugins do:

- one process and DDP: ``…-true`` of 16 and 64 bits converts everything, the rest leaves weights as they were made;
- FSDP2: what trains is float32 at least, what is frozen stays as it was made; all of it is cut, units and root;
- FSDP1: what trains and all of a unit, frozen or not, is float32 at least, as a unit is one flat tensor; ``32-true``
  converts everything; what is frozen outside of units stays whole in each process.

Under a 16-bit ``…-true``, all is 16 bits in both. Gradients and AdamW's moments have the dtype of their weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from ppl.modules.matrices import matrices
from ppl.modules.sharding import units_of
from ppl.modules.tuning import TuningModule
from ppl.planning.memory import States, Strategy

HALF = ("bf16-true", "16-true", "transformer-engine", "transformer-engine-float16")
_FLOAT = 4
_SUPPORTED = {
    "fsdp1": ("32-true", "16-true", "bf16-true", "16-mixed", "bf16-mixed"),
    "fsdp2": ("32-true", "16-true", "bf16-true", "bf16-mixed"),
}
"""Lightning's, of its two strategies."""


class Weight(NamedTuple):
    """One parameter, as the model was made."""

    elements: int
    size: int
    """Bytes of an element."""
    is_trained: bool
    unit: int | None
    """Number of the unit that FSDP gathers it with; None: the root."""
    is_matrix: bool
    """Inputs are multiplied with it: autocast copies it if it is of more than 16 bits."""
    is_scalar: bool = False
    """Which FSDP2 leaves whole."""


def strategies(precision: str, *, is_quantized: bool) -> list[Strategy]:
    """Those that can train so: `ppl fit` shards no quantised weights, Lightning shards not in every precision."""
    shards: list[Strategy] = ["fsdp2", "fsdp1"]
    return ["single", "ddp", *(name for name in shards if precision in _SUPPORTED[name] and not is_quantized)]


def weights_of(module: TuningModule, lora_rank: int = 0) -> list[Weight]:
    """A model's weights.

    Args:
        module: On the meta device.
        lora_rank: Of adapters, in float32, that train in place of the language model, as if the recipe had them (Hu et
            al. 2021, arXiv:2106.09685); 0: as it is.
    """
    backbone = module.model.backbone
    units = {id(p): number for number, unit in enumerate(units_of(module.model)) for p in unit.parameters()}
    read = {id(matrix) for matrix in matrices(module)}
    frozen = {id(p) for part in module.parts if part.name == "language_model" for p in part.parameters}
    weights = [
        Weight(
            p.numel(), p.element_size(), p.requires_grad and not (lora_rank and id(p) in frozen), units.get(id(p)),
            id(p) in read, p.ndim == 0,
        )
        for p in module.parameters()
    ]  # fmt: skip
    linears = [m for m in backbone.language_model.modules() if isinstance(m, nn.Linear)] if lora_rank else []
    adapters = [
        Weight(lora_rank * width, _FLOAT, True, units.get(id(linear.weight)), True)
        for linear in linears
        for width in (linear.in_features, linear.out_features)
    ]
    return [*weights, *adapters]


def kept_size(weight: Weight, precision: str, strategy: Strategy) -> int:
    """Bytes of one element of a weight from step to step, and of its gradient and each of its moments if it trains."""
    if precision in HALF:
        return 2
    if precision == "64-true":
        return 8
    is_raised = weight.is_trained or (strategy == "fsdp1" and (weight.unit is not None or precision == "32-true"))
    return max(weight.size, _FLOAT) if is_raised and strategy in ("fsdp1", "fsdp2") else weight.size


def states(weights: Sequence[Weight], precision: str, strategy: Strategy) -> States:
    """Bytes of the whole model's weights, and of what FSDP gathers of them at a time."""
    is_sharded, is_mixed = strategy in ("fsdp1", "fsdp2"), precision.endswith("-mixed")
    sizes = [kept_size(weight, precision, strategy) for weight in weights]
    computed = [
        2 if precision == "bf16-mixed" and is_sharded and _is_gathered_in_half(weight, strategy) else size
        for weight, size in zip(weights, sizes, strict=True)
    ]
    pairs = list(zip(weights, sizes, strict=True))
    return States(
        weights=sum(w.elements * size for w, size in pairs),
        trained=sum(w.elements * size for w, size in pairs if w.is_trained),
        trained_tensors=sum(w.is_trained for w in weights),
        whole=sum(w.elements * size for w, size in pairs if is_sharded and not _is_cut(w, strategy)),
        gathered=_gathered(weights, computed, precision, strategy) if is_sharded else 0,
        low_precision=sum(
            2 * w.elements for w, size in zip(weights, computed, strict=True) if is_mixed and w.is_matrix and size > 2
        ),
    )


def _is_cut(weight: Weight, strategy: Strategy) -> bool:
    """Whether FSDP spreads a weight over processes."""
    if strategy == "fsdp2":
        return not weight.is_scalar
    return weight.is_trained or weight.unit is not None


def _is_gathered_in_half(weight: Weight, strategy: Strategy) -> bool:
    """With ``bf16-mixed``: units are, and FSDP1's root is; FSDP2's root is gathered as it is kept."""
    return weight.unit is not None or (strategy == "fsdp1" and weight.is_trained)


def _gathered(weights: Sequence[Weight], sizes: Sequence[int], precision: str, strategy: Strategy) -> int:
    """The root with its gradients, two units, and a unit's gradients; with ``bf16-mixed`` these in float32 as well.

    Args:
        weights: All.
        sizes: Bytes of an element of each, as it is gathered.
        precision: Lightning's.
        strategy: Of FSDP's two.
    """
    reduced = _FLOAT if precision == "bf16-mixed" else 0
    root, units = 0, {}
    for weight, size in zip(weights, sizes, strict=True):
        if not _is_cut(weight, strategy):
            continue
        if weight.unit is None:
            root += weight.elements * size * (2 if weight.is_trained else 1)
        else:
            gradient = size + reduced if weight.is_trained else 0
            units[weight.unit] = units.get(weight.unit, 0) + weight.elements * (2 * size + gradient)
    return root + max(units.values(), default=0)
