"""Choose windows for a grid of any size so that their number stays within a budget."""

from __future__ import annotations

from ppl.functional.windows import Size3


def budget_kernel(size: Size3, budget: int, *, frames_may_merge: bool = True) -> Size3:
    """Choose a window that tiles a grid, a smaller last one included (``edges: pad``), within a budget of windows.

    Candidates are all heights and widths that cut rows and columns as evenly as their number allows; each goes with the
    fewest frames that make its windows fit. The best one minimises

        (budget / windows) * (most stretched axis / least stretched axis),

    where an axis is stretched by the window's extent over that of (2, 3, 3), PPLLaVA's window (pooling rows and columns
    costs little, pooling frames much: Figs. 3 and 4): budget that stays unused counts as much as a window that is out
    of shape. Where frames may not merge, only rows and columns are compared. Of equals, the one
    with the fewest frames, then the most nearly square, then the lowest.

    Args:
        size: Tokens along each axis of the grid.
        budget: Windows there may be.
        frames_may_merge: Whether a window may span frames; the views of an image may not.

    Returns:
        Frames, rows and columns of a window, its stride as well.

    Raises:
        ValueError: The size or the budget has no tokens, or there are more frames than budget and they may not merge.
    """
    t, h, w = size
    if min(size) < 1 or budget < 1:
        raise ValueError(f"got a grid of (t, h, w)={size} and a budget of {budget}, expected integers >= 1")
    if not frames_may_merge and t > budget:
        raise ValueError(
            f"got a budget of {budget} tokens for an image of {t} views, expected one or more for each, as views are "
            f"never merged: use a budget of at least {t}"
        )
    best: tuple[tuple[float, int, int, int], Size3] | None = None
    for rows in _even_extents(h):
        for columns in _even_extents(w):
            per_frame = -(-h // rows) * -(-w // columns)
            slots = budget // per_frame
            if slots < (1 if frames_may_merge else t):
                continue
            frames = -(-t // slots)  # 1 for views
            stretches = (3 * frames, 2 * rows, 2 * columns)[0 if frames_may_merge else 1 :]  # times 6: integers
            windows = -(-t // frames) * per_frame
            rank = (max(stretches) / (min(stretches) * windows), frames, abs(rows - columns), rows)
            if best is None or rank < best[0]:
                best = rank, (frames, rows, columns)
    assert best is not None, "one window per frame, or one in all, fits"
    return best[1]


def _even_extents(length: int) -> list[int]:
    """The extent of a window that cuts the length in one, two, ... as even as possible."""
    return sorted({-(-length // parts) for parts in range(1, length + 1)})
