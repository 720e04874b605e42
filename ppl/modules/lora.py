"""LoRA: the language model's linear layers stay, low-rank updates of them train (Hu et al. 2021, arXiv:2106.09685)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ppl.modules.backbones.base import Backbone

if TYPE_CHECKING:
    from peft import LoraConfig

_TARGETS = r"layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"
"""Every linear layer of the blocks, by its path in the decoder, which holds no tower, projector or head."""
DECODER = "model.language_model"
"""The decoder's path in transformers' models."""


@dataclass(frozen=True)
class LoRA:
    """Low-rank adapters of the language model: ``W x`` becomes ``W x + alpha / rank * B A x``, ``B`` zero at first.

    The defaults are those of LLaVA-1.5's and Video-LLaVA's ``finetune_lora.sh``, which adapt the same layers. QLoRA
    (Dettmers et al. 2023, arXiv:2305.14314) is these adapters on a backbone with ``quantization: 4bit``.

    Args:
        rank: Rows of ``A`` and columns of ``B``.
        alpha: The update's scale is ``alpha / rank``.
        dropout: Share of an adapter's inputs zeroed in training.
        rank_stabilized: The scale is ``alpha / sqrt(rank)``, so that a higher rank learns more (rsLoRA, Kalajdzievski
            2023, arXiv:2312.03732).
        dora: Adapters turn the rows of ``W`` only; how long each is trains apart (DoRA, Liu et al. 2024,
            arXiv:2402.09353).
    """

    rank: int = 128
    alpha: float = 256.0
    dropout: float = 0.05
    rank_stabilized: bool = False
    dora: bool = False


def add_lora(backbone: Backbone, lora: LoRA) -> None:
    """Put adapters into the language model, in place; no module moves and no class changes.

    Adapters are float32 whatever the weights are: in bfloat16, small steps are lost in rounding.

    Raises:
        ValueError: The rank is not positive.
    """
    from peft import inject_adapter_in_model  # seconds, for those who use it

    if lora.rank < 1:
        msg = f"got lora.rank={lora.rank}, expected at least 1; set model.lora=null to train without LoRA"
        raise ValueError(msg)
    inject_adapter_in_model(lora_config(lora), backbone.language_model)
    for parameter in lora_parameters(backbone.language_model):
        parameter.data = parameter.data.float()


def lora_config(lora: LoRA, targets: str = _TARGETS) -> LoraConfig:
    """Peft's words for the same adapters; targets are of the decoder unless they are given."""
    from peft import LoraConfig

    alpha: Any = lora.alpha  # an int to peft, which only divides it
    return LoraConfig(
        r=lora.rank,
        lora_alpha=alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
        use_rslora=lora.rank_stabilized,
        use_dora=lora.dora,
    )


def adapter_config(lora: LoRA, source: str, revision: str | None) -> LoraConfig:
    """What plain peft must know to put the same adapters into transformers' whole model.

    Args:
        lora: As they were trained.
        source: Hub id or folder of the model without them.
        revision: Branch, tag or commit of a hub id.
    """
    config = lora_config(lora, rf"{re.escape(DECODER)}\.{_TARGETS}")
    config.base_model_name_or_path, config.revision = source, revision
    config.inference_mode = True
    return config


def merge_lora(backbone: Backbone) -> None:
    """Add the adapters' updates to the weights and take the adapters out, in place, layer by layer.

    In bfloat16 the sum is rounded, so that logits are not quite those of before. Quantised weights are first turned
    back to the precision they compute in: merged into 4 bits, most of an update would be rounded away.

    Raises:
        ValueError: The weights are quantised and the adapters are of DoRA, which peft merges into such weights only.
    """
    from peft.tuners.lora import LoraLayer

    layers: list[tuple[str, Any]] = [
        (n, part) for n, part in backbone.hf.named_modules() if isinstance(part, LoraLayer)
    ]
    quantized = getattr(backbone.hf, "hf_quantizer", None) is not None
    if quantized and any(any(layer.use_dora.values()) for _, layer in layers):
        msg = (
            "got adapters of DoRA on quantised weights, expected plain LoRA or whole weights to merge into: export "
            "without --merge"
        )
        raise ValueError(msg)
    if quantized:
        repacked = [
            name
            for name, layer in layers
            if getattr(getattr(layer.get_base_layer().weight, "quant_state", None), "packing_format_for_cpu", False)
        ]
        assert not repacked, "bitsandbytes has repacked the weights for the CPU: merge before the first answer"
        backbone.hf.dequantize()
    for name, layer in layers:
        base = layer.get_base_layer()
        if quantized:
            base.weight.data += layer.get_delta_weight("default").to(base.weight.dtype)
        else:
            layer.merge(safe_merge=True)
        backbone.hf.set_submodule(name, base)
    for attribute in {"peft_config", "active_adapter"} & backbone.language_model.__dict__.keys():
        delattr(backbone.language_model, attribute)


def check_precision(backbone: Backbone, precision: str) -> None:
    """Make sure that the trainer left the adapters float32: Lightning converts every weight to a ``-true`` precision.

    Args:
        backbone: As it is trained.
        precision: The trainer's, for the message.

    Raises:
        ValueError: Adapters are less precise.
    """
    rounded = [p for p in lora_parameters(backbone.language_model) if torch.finfo(p.dtype).bits < 32]
    if rounded:
        msg = (
            f"got model.lora with trainer.precision={precision}, which made the adapters {rounded[0].dtype}, in which "
            "their small steps are lost; expected bf16-mixed: add -c recipes/overlays/lora.yaml behind the experiment, "
            "or --trainer.precision=bf16-mixed"
        )
        raise ValueError(msg)


def lora_parameters(language_model: nn.Module) -> list[nn.Parameter]:
    """The adapters' weights; empty without adapters."""
    return [parameter for name, parameter in language_model.named_parameters() if ".lora_" in name]
