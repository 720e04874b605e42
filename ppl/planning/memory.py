"""Memory of one GPU for weights, gradients and optimiser, for one process, DDP and FSDP.

The states are those of Rajbhandari et al. 2020 (ZeRO, arXiv:1910.02054, §3.1), for torch's plain AdamW: its two moments
have the dtype of their parameter, so ``bf16-true`` trains with bf16 moments and no fp32 copy of the weights. What
dtype a strategy keeps a parameter in is in `ppl.planning.weights`. All sizes are bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Strategy = Literal["single", "ddp", "fsdp2", "fsdp1"]

CONTEXT = 2**30
"""Taken for what is not the program's own: CUDA's context, its libraries' workspaces, NCCL's buffers."""


@dataclass(frozen=True)
class States:
    """What a strategy keeps from step to step, of the whole model."""

    weights: int
    trained: int
    """Weights that train."""
    trained_tensors: int
    whole: int = 0
    """Of the weights, those that FSDP leaves whole in each process."""
    gathered: int = 0
    """What FSDP has gathered at a time, and gradients that are not cut yet."""
    low_precision: int = 0
    """Autocast's copies of weights, kept from forward to backward; none of weights that FSDP gathers in 16 bits."""

    @property
    def gradients(self) -> int:
        """One for each weight that trains, of its dtype."""
        return self.trained

    @property
    def moments(self) -> int:
        """AdamW's two, of each weight's dtype."""
        return 2 * self.trained

    @property
    def steps(self) -> int:
        """AdamW's count for each tensor, in fp32; every process has all of them."""
        return 4 * self.trained_tensors


@dataclass(frozen=True)
class Memory:
    """One GPU at its height."""

    weights: int
    gradients: int
    optimizer: int
    communication: int
    """DDP: buckets, a second copy of all gradients. FSDP: what is gathered at a time."""
    low_precision: int
    """Autocast's copies of weights."""
    activations: int
    """Kept for the backward pass, and one layer computed again."""
    logits: int
    tower: int
    """A frozen vision tower at work; before there are activations."""
    step: int
    """Intermediate values of AdamW's step, as large as the weights that train; after activations are gone."""

    @property
    def total(self) -> int:
        """States, and the most that any moment adds."""
        states = self.weights + self.gradients + self.optimizer + self.communication
        return CONTEXT + states + max(self.activations + self.logits + self.low_precision, self.tower, self.step)

    def fits(self, capacity: float) -> bool:
        """Whether a GPU of so many bytes holds it."""
        return self.total <= capacity


def per_gpu(states: States, strategy: Strategy, gpus: int, activations: int, logits: int, tower: int) -> Memory:
    """Distribute the states; activations are each GPU's own, of its own batch.

    FSDP shards all three states (ZeRO's stage 3), but for weights that it leaves whole.

    Args:
        states: Of the whole model.
        strategy: What the states are of; of FSDP, the full shard.
        gpus: Processes; unused by ``single``.
        activations: Bytes of one GPU's batch.
        logits: Bytes of one GPU's batch.
        tower: Bytes of a frozen vision tower over one GPU's batch.
    """
    share = gpus if strategy in ("fsdp1", "fsdp2") else 1
    communication = 0
    if gpus > 1:
        communication = states.gradients if strategy == "ddp" else states.gathered
    return Memory(
        weights=states.whole + (states.weights - states.whole) // share,
        gradients=states.gradients // share,
        optimizer=states.moments // share + states.steps,
        communication=communication,
        low_precision=states.low_precision,
        activations=activations,
        logits=logits,
        tower=tower,
        step=states.trained // share,
    )
