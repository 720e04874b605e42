"""FSDP1: each unit's weights as one flat tensor, cut over processes; what the papers' A100s had."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

import torch
from lightning.pytorch.strategies import FSDPStrategy
from torch import nn
from torch.distributed.fsdp import MixedPrecision
from torch.distributed.fsdp.wrap import CustomPolicy

from ppl.modules.lora import lora_parameters
from ppl.modules.sharding import check_shardable, units_of
from ppl.modules.tuning import TuningModule
from ppl.saving.folders import VerifiedFolders


class FSDP1Strategy(VerifiedFolders, FSDPStrategy):
    """Lightning's strategy, which wraps a `TuningModule` by what its model is made of.

    A unit's weights are of one precision, and all train or none: for frozen ones among others FSDP1 would keep
    gradients. So adapters (LoRA) are units of their own, and what is frozen outside of units stays whole in every
    process. With ``bf16-mixed``, weights of units are kept and reduced in float32.

    Args:
        sharding_strategy: What is cut: also weights (``FULL_SHARD``), or all but those (``SHARD_GRAD_OP``).
        state_dict_type: ``sharded``: each process writes its shards into a folder; ``full``: one writes a file of all.
        timeout_minutes: For which a collective waits.
        cpu_offload: Keep weights, gradients and the optimiser's state in host memory between uses.
    """

    def __init__(
        self,
        sharding_strategy: Literal["FULL_SHARD", "SHARD_GRAD_OP"] = "FULL_SHARD",
        state_dict_type: Literal["full", "sharded"] = "sharded",
        timeout_minutes: float = 30.0,
        *,
        cpu_offload: bool = False,
    ) -> None:
        super().__init__(
            sharding_strategy=sharding_strategy,
            state_dict_type=state_dict_type,
            timeout=timedelta(minutes=timeout_minutes),
            cpu_offload=cpu_offload,
        )

    def _setup_model(self, model: nn.Module) -> nn.Module:
        """Wrap it.

        Raises:
            ValueError: As for `check_shardable`, or it is another module.
        """
        if not isinstance(model, TuningModule):
            msg = f"got {type(model).__name__} for FSDP, expected a module that tunes: take overlays/ddp.yaml"
            raise ValueError(msg)
        check_shardable(model.model)
        units = set(units_of(model.model)) | _adapters(model.model.backbone.language_model)
        in_units = {parameter for unit in units for parameter in unit.parameters()}
        whole = [p for p in model.parameters() if p not in in_units and not p.requires_grad]
        mixed = self.precision_plugin.precision == "bf16-mixed"
        self.mixed_precision = MixedPrecision(  # Lightning's own would round buffers, rotary frequencies among them
            param_dtype=torch.bfloat16 if mixed else None, reduce_dtype=torch.float32 if mixed else None
        )
        if self.precision_plugin.precision not in ("bf16-true", "16-true"):
            _make_precise([p for p in model.parameters() if p.requires_grad or p in in_units])
        for parameter in whole:
            parameter.data = parameter.data.to(self.root_device)
        self.kwargs["ignored_states"] = whole
        self.kwargs["auto_wrap_policy"] = CustomPolicy(lambda part: part in units)
        return super()._setup_model(model)


def _make_precise(parameters: list[nn.Parameter]) -> None:
    """Bring weights to one precision, float32 or the most precise among them."""
    bits = max((p.dtype for p in parameters), key=lambda dtype: torch.finfo(dtype).bits)
    for parameter in parameters:
        parameter.data = parameter.data.to(torch.promote_types(bits, torch.float32))


def _adapters(language_model: nn.Module) -> set[nn.Module]:
    """The linear layers that adapters consist of."""
    trained = set(lora_parameters(language_model))
    return {part for part in language_model.modules() if trained.intersection(part.parameters(recurse=False))}
