"""The same model with another pooler, or with windows that keep each medium within a number of tokens.

Axes: *b none, or media of equal shape | t h w frames, rows, columns | c channels | n tokens that are left.
"""

from __future__ import annotations

from copy import copy
from pathlib import Path

import yaml
from jaxtyping import Float
from jsonargparse import ArgumentParser
from torch import Tensor

from ppl.batches import MediaKind
from ppl.datamodules.processing import Processor
from ppl.functional.budget import budget_kernel
from ppl.functional.windows import Size3
from ppl.modules.poolers.base import Pooler, WindowPooler
from ppl.modules.poolers.budget import BudgetPooler
from ppl.modules.video_llm import VideoLLM


def read_pooler(path: str | Path) -> Pooler:
    """Make the pooler that a part of a recipe describes, such as those in ``recipes/parts/poolers``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It describes no pooler.
    """
    try:
        described = yaml.safe_load(Path(path).read_text())
        parser = ArgumentParser(exit_on_error=False)
        parser.add_subclass_arguments(Pooler, "pooler")
        pooler = parser.instantiate(parser.parse_object({"pooler": described}))["pooler"]
    except FileNotFoundError as error:
        msg = f"got pooler {str(path)!r}, which does not exist; expected a file like recipes/parts/poolers/average.yaml"
        raise FileNotFoundError(msg) from error
    except Exception as error:  # jsonargparse has errors of several kinds, and so has what a class raises when made
        msg = f"got {path}, which describes no pooler ({error}); expected one like recipes/parts/poolers/average.yaml"
        raise ValueError(msg) from error
    if pooler is None:
        msg = f"got {path}, which is empty, expected one like recipes/parts/poolers/average.yaml"
        raise ValueError(msg)
    return pooler


def with_pooler(model: VideoLLM, pooler: Pooler) -> VideoLLM:
    """Give a model that pools otherwise and shares everything else: weights, and features in its cache.

    Raises:
        ValueError: As for `VideoLLM`.
    """
    other = VideoLLM(model.backbone, pooler, model.aligner, model.positions, model.pool_site, model.cache)
    other.training = model.training
    pooler.train(model.training)
    return other


def for_model(processor: Processor, model: VideoLLM) -> Processor:
    """Give a processor that reads and renders the same for a model that differs in how it pools."""
    other = copy(processor)
    other.inputs = model.input_spec
    return other


def with_budget(pooler: Pooler, budget: int) -> Pooler:
    """Make the same way of pooling leave at most ``budget`` tokens of each medium, whatever its size.

    Raises:
        ValueError: The budget is below 1, or the pooler has neither windows nor a budget to choose.
    """
    if budget < 1:
        msg = f"got a budget of {budget} tokens, expected at least 1"
        raise ValueError(msg)
    if isinstance(pooler, BudgetPooler):
        return BudgetPooler(budget, budget, budget, pooler.fine_share)
    if isinstance(pooler, WindowPooler):
        return FittedWindows(pooler, budget)
    if isinstance(pooler, FittedWindows):
        return FittedWindows(pooler.windows, budget)
    msg = (
        f"got a budget of {budget} tokens for {type(pooler).__name__}, whose tokens are not those of windows of one "
        "size; expected one like recipes/parts/poolers/weighted.yaml, average.yaml, max.yaml or budget.yaml"
    )
    raise ValueError(msg)


class FittedWindows(Pooler):
    """Pool as another pooler does, in windows whose size is chosen by each medium's own (`budget_kernel`).

    Args:
        windows: Another pooler; its window sizes are not looked at.
        budget: Most tokens of one medium, but for newlines that a backbone adds.
    """

    def __init__(self, windows: WindowPooler, budget: int) -> None:
        super().__init__()
        self.windows = windows
        self.budget = budget
        self.uses_relevance = windows.uses_relevance

    def forward(
        self, grid: Float[Tensor, "*b t h w c"], relevance: Float[Tensor, "*b t h w"] | None, kind: MediaKind
    ) -> Float[Tensor, "*b n c"]:
        """Pool one medium."""
        t, h, w = grid.shape[-4:-1]
        return self._fitted((t, h, w), kind)(grid, relevance, kind)

    def output_grid(self, size: Size3, kind: MediaKind) -> Size3 | None:
        """(t, h, w) of what is left."""
        return self._fitted(size, kind).output_grid(size, kind)

    def num_tokens(self, size: Size3, kind: MediaKind) -> int:
        """Windows in a grid of ``size``: at most the budget.

        Raises:
            ValueError: An image has more views than that.
        """
        return self._fitted(size, kind).num_tokens(size, kind)

    def _fitted(self, size: Size3, kind: MediaKind) -> WindowPooler:
        kernel_size = budget_kernel(size, self.budget, frames_may_merge=kind == "video")
        fitted = copy(self.windows)
        fitted.edges = "pad"
        fitted.kernel_size = fitted.image_kernel_size = fitted.multi_image_kernel_size = kernel_size
        fitted.stride = fitted.image_stride = fitted.multi_image_stride = kernel_size
        return fitted
