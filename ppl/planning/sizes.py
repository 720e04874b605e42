"""Read from a model on the meta device the sizes that costs are computed from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from ppl.batches import MediaKind
from ppl.modules.backbones.base import Backbone
from ppl.modules.backbones.bt_adapter import BTAdapter
from ppl.planning.activations import Layer

_ALIASES = {"16": "16-mixed", "bf16": "bf16-mixed", "32": "32-true", "64": "64-true"}
"""Lightning's, which it takes as numbers too."""
_MIXED = {
    "bf16-true": "bf16-mixed",
    "16-true": "16-mixed",
    "transformer-engine": "bf16-mixed",
    "transformer-engine-float16": "16-mixed",
}


def unified_precision(precision: str | int | None) -> str:
    """Lightning's name for a precision: ``bf16`` and 16 are ``bf16-mixed`` and ``16-mixed``, null is ``32-true``."""
    name = "32-true" if precision is None else str(precision)
    return _ALIASES.get(name, name)


def adapter_precision(precision: str) -> str:
    """The precision in which adapters can train: `ppl fit` refuses those that would round them to 16 bits."""
    return _MIXED.get(precision, precision)


def elements(tensors: Iterable[Tensor], *, trained: bool = False) -> int:
    """Elements of tensors; with ``trained``, of those that train."""
    return sum(t.numel() for t in tensors if t.requires_grad or not trained)


def decoder_layers(backbone: Backbone) -> list[nn.Module]:
    """Layers of the language model."""
    found = backbone.language_model.layers
    assert isinstance(found, nn.ModuleList)
    return list(found)


def language_layer(backbone: Backbone, lora_dropout: float = 0.0) -> tuple[Layer, int]:
    """One layer of the language model, adapters included, and how many there are."""
    text = backbone.hf.config.text_config
    ranks = [p.shape[0] for name, p in backbone.language_model.named_parameters() if ".lora_A" in name]
    names = {name.rsplit(".", 1)[-1] for name, _ in decoder_layers(backbone)[0].named_modules()}
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    layer = Layer(
        width=text.hidden_size,
        query=head * text.num_attention_heads,
        key=head * text.num_key_value_heads,
        heads=text.num_attention_heads,
        mlp=text.intermediate_size,
        mlp_copies=3 if "gate_proj" in names else 1,
        is_rms=True,
        lora_rank=ranks[0] if ranks else 0,
        lora_dropout=lora_dropout if ranks else 0.0,
    )
    return layer, text.num_hidden_layers


def vision_layer(config: Any) -> tuple[Layer, int]:  # noqa: ANN401  a vision config of transformers
    """One layer of a vision tower, and how many there are."""
    width = config.hidden_size
    copies = 2 if config.hidden_act == "quick_gelu" else 1
    layer = Layer(width, width, width, config.num_attention_heads, config.intermediate_size, copies, is_rms=False)
    return layer, config.num_hidden_layers


def frame_tokens(backbone: Backbone) -> int:
    """Positions of one frame inside the vision tower: its patches, and the class token where there is one."""
    return backbone.grid_size[0] * backbone.grid_size[1] + int(backbone.spec.has_cls)


def tower(backbone: Backbone, kind: MediaKind) -> nn.Module:
    """The vision tower that encodes one kind of medium."""
    return getattr(backbone.hf.model, backbone.spec.tower(kind))


def without_branch(backbone: Backbone) -> tuple[nn.Module, BTAdapter | None]:
    """The vision tower (or towers) as it is without a BT-Adapter, and that."""
    branch = getattr(backbone, "bt_adapter", None)
    vision = backbone.vision_tower
    if branch is None:
        return vision, None
    assert isinstance(vision, nn.ModuleDict)
    return vision["tower"], branch
