"""Count what a model really computes, step by step: tokens that are no padding, and operations.

The arithmetic is that of ``ppl plan`` (`ppl.functional.flops`); the sizes are those of each call, seen by hooks on the
stages. So a medium whose features are cached does not count for the tower, what runs without gradients has no backward
pass, and nothing is assumed of the loss. Padding counts nowhere but in the aligner's prompts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ppl.functional.flops import Counts, Work, attention_work, linear_work, patch_embedding_work
from ppl.modules.aligners.frozen_tower import FrozenTower
from ppl.modules.backbones.base import Backbone
from ppl.modules.backbones.bt_adapter import BTAdapter
from ppl.modules.matrices import matrix_elements
from ppl.modules.video_llm import VideoLLM

Arguments = tuple[Any, ...]


@dataclass
class _Pass:
    """One call of the language model; what is on the device is read when the counts are."""

    sizes: Tensor
    """Tokens, and the sum over sequences of their squared lengths."""
    positions: int
    has_gradient: bool
    heads: int = 0
    """Calls of the head at every position."""


class WorkMeter:
    """Counts while ``is_counting``; waits for the device only in `read`.

    The parameters' sizes are those at construction: make it before a strategy shards them.

    Args:
        model: Its stages get hooks, until `detach`.
    """

    def __init__(self, model: VideoLLM) -> None:
        self.is_counting = False
        self._flops = 0
        self._passes: list[_Pass] = []
        self._mask: Tensor | None = None
        """Of the rows that the backbone was last given: packed ones reach the language model without a mask."""
        backbone = model.backbone
        text = backbone.hf.config.text_config
        head_width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        self._width = head_width * text.num_attention_heads
        self._layers = text.num_hidden_layers
        self._decoder = _sizes(backbone.language_model)
        self._head = _sizes(backbone.hf.lm_head)
        self._handles: list[Any] = []
        self._hook(backbone, self._rows)
        self._hook(backbone.language_model, self._language)
        self._hook(backbone.hf.lm_head, self._logits)
        for name in backbone.spec.towers:
            self._hook(getattr(backbone.hf.model, name), _tower_work(backbone, name))
        self._hook_linears(backbone.projector)
        branch = getattr(backbone, "bt_adapter", None)
        if branch is not None:
            self._hook(branch, _branch_work(branch))
        if model.aligner is not None:
            self._hook(model.aligner.text_tower, _prompt_work(model.aligner.text_tower))
            towers = [m for m in model.aligner.modules() if isinstance(m, FrozenTower)]
            for tower in towers:
                self._hook(tower, _own_tower_work(tower))
            self._hook_linears(model.aligner, model.aligner.text_tower, *towers)

    def read(self) -> Counts:
        """What was counted since the last reading; waits for the device."""
        passes, flops = self._passes, self._flops
        self._passes, self._flops = [], 0
        tokens = positions = 0
        sizes = torch.stack([each.sizes for each in passes]).tolist() if passes else []
        for each, (length, squares) in zip(passes, sizes, strict=True):
            flops += _operations(self._language_work(each, length, squares), has_gradient=each.has_gradient)
            if each.has_gradient:
                tokens, positions = tokens + length, positions + each.positions
        return Counts(tokens, positions, flops)

    def detach(self) -> None:
        """Take the hooks away."""
        for handle in self._handles:
            handle.remove()

    def _hook(self, module: nn.Module, work: Callable[[Arguments, dict[str, Any]], Work | None]) -> None:
        def before(_: nn.Module, args: Arguments, kwargs: dict[str, Any]) -> None:
            done = work(args, kwargs) if self.is_counting else None
            if done is not None:
                self._flops += _operations(done, has_gradient=torch.is_grad_enabled())

        self._handles.append(module.register_forward_pre_hook(before, with_kwargs=True))

    def _hook_linears(self, module: nn.Module, *but: nn.Module) -> None:
        inside = {each for other in but for each in other.modules()}
        for linear in module.modules():
            if isinstance(linear, nn.Linear) and linear not in inside:
                self._hook(linear, _linear_work(linear))

    def _rows(self, args: Arguments, kwargs: dict[str, Any]) -> None:
        self._mask = args[1] if len(args) > 1 else kwargs["attention_mask"]

    def _language(self, args: Arguments, kwargs: dict[str, Any]) -> None:
        del args
        embeds, mask = kwargs["inputs_embeds"], kwargs.get("attention_mask")
        if mask is None and self._mask is not None and self._mask.shape == embeds.shape[:2]:
            mask = self._mask
        sizes = _sequence_sizes(embeds, mask, kwargs.get("position_ids"))
        has_gradient = torch.is_grad_enabled() and (embeds.requires_grad or self._decoder[1] > 0)
        self._passes.append(_Pass(sizes, math.prod(embeds.shape[:2]), has_gradient))

    def _logits(self, args: Arguments, kwargs: dict[str, Any]) -> Work | None:
        """A head over every position is counted with the language model, where padding is known."""
        del kwargs
        rows = args[0].numel() // args[0].shape[-1]
        if self._passes and self._passes[-1].positions == rows:
            self._passes[-1].heads += 1
            return None
        return linear_work(rows, *self._head, before=args[0].requires_grad)

    def _language_work(self, each: _Pass, tokens: int, squares: int) -> Work:
        before = each.has_gradient
        attention = Work(0, 4 * squares * self._width * self._layers, 0, before)
        head = linear_work(tokens * each.heads, *self._head, before=before)
        return linear_work(tokens, *self._decoder, before=before) + attention + head


def _operations(work: Work, *, has_gradient: bool) -> int:
    return work.forward + (work.backward if has_gradient else 0)


def _sizes(module: nn.Module) -> tuple[int, int]:
    """Elements of its matrices, and of those that train."""
    return matrix_elements(module), matrix_elements(module, trained=True)


def _sequence_sizes(embeds: Tensor, mask: Tensor | None, positions: Tensor | None) -> Tensor:
    """Tokens and summed squares of lengths, without waiting for the device.

    Positions that count from 0 in each sequence, however many share a row, give ``n ** 2`` as the sum of ``2 p + 1``.
    """
    real = torch.ones(embeds.shape[:2], dtype=torch.int64, device=embeds.device)
    if mask is not None and mask.ndim == 2:
        real = (mask != 0).long()
    if positions is None:
        lengths = real.sum(dim=1)
        return torch.stack([lengths.sum(), (lengths * lengths).sum()])
    return torch.stack([real.sum(), (real * (2 * positions + 1)).sum()])


def _tower_work(backbone: Backbone, name: str) -> Callable[[Arguments, dict[str, Any]], Work]:
    tower, config = getattr(backbone.hf.model, name), backbone.hf.config.vision_config
    sizes, (rows, columns) = _sizes(tower), backbone.grid_size
    trains = any(p.requires_grad for p in tower.parameters())
    side, width = backbone.image_size // rows, config.hidden_size
    tokens, layers = rows * columns + int(backbone.spec.has_cls), config.num_hidden_layers

    def work(args: Arguments, kwargs: dict[str, Any]) -> Work:
        frames = len(args[0] if args else kwargs["pixel_values"])
        pixels = patch_embedding_work(frames * rows * columns, side, width, trains=trains)
        attention = attention_work(frames * tokens, tokens, width, layers, has_gradient=trains)
        return pixels + linear_work(frames * tokens, *sizes) + attention

    return work


def _branch_work(branch: BTAdapter) -> Callable[[Arguments, dict[str, Any]], Work]:
    sizes, trains = _sizes(branch), any(p.requires_grad for p in branch.parameters())

    def work(args: Arguments, kwargs: dict[str, Any]) -> Work:
        del kwargs
        states, _, num_frames = args
        tokens, width = states[0].shape[0] * states[0].shape[1], states[0].shape[2]
        keys = num_frames + states[0].shape[1]  # of its place in other frames, and of its own frame
        attention = attention_work(tokens, keys, width, branch.depth, has_gradient=trains)
        return linear_work(tokens, *sizes) + attention

    return work


def _own_tower_work(own: FrozenTower) -> Callable[[Arguments, dict[str, Any]], Work]:
    tower: Any = own.tower
    elements, width, layers = matrix_elements(tower), tower.conv1.out_channels, len(tower.transformer.resblocks)
    patches = math.prod(tower.grid_size)

    def work(args: Arguments, kwargs: dict[str, Any]) -> Work:
        del kwargs
        frames, tokens = len(args[0]), patches + 1
        pixels = patch_embedding_work(frames * patches, tower.conv1.kernel_size[0], width)
        attention = attention_work(frames * tokens, tokens, width, layers)
        return pixels + linear_work(frames * tokens, elements) + attention

    return work


def _prompt_work(text_tower: nn.Module) -> Callable[[Arguments, dict[str, Any]], Work]:
    """Products alone, padding included: prompts are short."""
    sizes = _sizes(text_tower)
    return lambda args, kwargs: linear_work((args[0] if args else kwargs["prompt_ids"]).numel(), *sizes)


def _linear_work(linear: nn.Linear) -> Callable[[Arguments, dict[str, Any]], Work]:
    sizes = _sizes(linear)
    return lambda args, _: linear_work(args[0].numel() // linear.in_features, *sizes, before=args[0].requires_grad)
