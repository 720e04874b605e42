"""A number of tokens is given, the windows follow: from one image to a film."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

from ppl.batches import MediaKind
from ppl.functional.budget import budget_kernel
from ppl.functional.relevance import relevance_distribution
from ppl.functional.straight_through import straight_through
from ppl.functional.token_selection import keep_and_pool
from ppl.functional.windows import Size3, output_size
from ppl.modules.poolers.base import Pooler, by_kind, check_least, required


class BudgetPooler(Pooler):
    """Spend a budget of tokens on any clip: a coarse view of all of it, and the patches the prompt asks about.

    A clip of no more patches than the budget keeps them all. Otherwise windows of a size that suits the clip (see
    `budget_kernel`) take what ``fine_share`` leaves, each patch weighed by its relevance, and the rest of the budget
    goes to the most relevant patches, kept as they are: exactly the budget is spent. Windows pool the patches that
    are not kept, weighed among themselves; one whose patches are all kept is their plain mean. Kept patches come first,
    then the windows, both frame by frame, row by row.

    Args:
        budget: Tokens of a video.
        image_budget: Tokens of a single image, over all its views; newline tokens that a backbone adds are not counted.
        multi_image_budget: Tokens of each of several images; null: as for a single image.
        fine_share: Part of the budget that is set aside for patches kept as they are; 0 leaves them what windows do not
            use. An image whose views are many has less for them, as each view has a window.

    Raises:
        ValueError: A budget is smaller than 1, or ``fine_share`` is not in [0, 1).
    """

    uses_relevance = True

    def __init__(
        self,
        budget: int = 1024,
        image_budget: int = 576,
        multi_image_budget: int | None = None,
        fine_share: float = 0.25,
    ) -> None:
        super().__init__()
        budgets = {"budget": budget, "image_budget": image_budget, "multi_image_budget": multi_image_budget}
        check_least(1, "tokens to spend", **budgets)
        if not 0 <= fine_share < 1:
            raise ValueError(f"got fine_share={fine_share}, expected a part of the budget: use a number in [0, 1)")
        self.budget = budget
        self.image_budget = image_budget
        self.multi_image_budget = multi_image_budget
        self.fine_share = fine_share

    def forward(
        self, grid: Float[Tensor, "*b t h w c"], relevance: Float[Tensor, "*b t h w"] | None, kind: MediaKind
    ) -> Float[Tensor, "*b n c"]:
        """Spend the budget on one medium."""
        relevance = required(relevance)
        t, h, w = grid.shape[-4:-1]
        kernel_size = self.window((t, h, w), kind)
        if kernel_size is None:
            return straight_through(grid.flatten(-4, -2), relevance_distribution(relevance).flatten(-3))
        kept = self._budget(kind) - math.prod(output_size((t, h, w), kernel_size, kernel_size, "pad"))
        return keep_and_pool(grid, relevance, kept, kernel_size=kernel_size, edges="pad")

    def window(self, size: Size3, kind: MediaKind) -> Size3 | None:
        """The window, and its stride, for a grid of ``size``; None if every patch is kept.

        Raises:
            ValueError: An image has more views than its budget has tokens.
        """
        budget = self._budget(kind)
        if math.prod(size) <= budget:
            return None
        may_merge = kind == "video"
        coarse = max(budget - math.ceil(budget * self.fine_share), 1 if may_merge else size[0])
        return budget_kernel(size, min(coarse, budget), frames_may_merge=may_merge)

    def output_grid(self, size: Size3, kind: MediaKind) -> Size3 | None:
        """The grid itself if every patch is kept; otherwise none.

        Raises:
            ValueError: An image has more views than its budget has tokens.
        """
        return size if self.window(size, kind) is None else None

    def num_tokens(self, size: Size3, kind: MediaKind) -> int:
        """The budget, or what there is.

        Raises:
            ValueError: An image has more views than its budget has tokens.
        """
        self.window(size, kind)
        return min(self._budget(kind), math.prod(size))

    def _budget(self, kind: MediaKind) -> int:
        return by_kind(kind, self.budget, self.image_budget, self.multi_image_budget)
