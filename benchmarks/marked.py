"""Pages of which a part, between two marks, is made by a command; the rest is written by hand."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def rewrite(page: Path, start: str, end: str, made: str) -> None:
    """Put what was made between the marks, and say so.

    Raises:
        ValueError: The page has not each mark once, in this order.
    """
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(start)
    _, _, after = rest.partition(end)
    if (text.count(start), text.count(end), rest.count(end)) != (1, 1, 1):
        raise ValueError(f"got {page} without {start!r} and {end!r} once each in this order; put them where it belongs")
    page.write_text(f"{before}{start}{made}{end}{after}", encoding="utf-8")
    sys.stdout.write(f"wrote {page.relative_to(ROOT) if page.is_relative_to(ROOT) else page}\n")
