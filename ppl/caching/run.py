"""Run ``ppl cache``: say what it takes, fill the folder, say what was done."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from ppl.caching.estimate import Share, check_space, estimate, size
from ppl.caching.fill import FillModule
from ppl.caching.media import media_of
from ppl.caching.recipe import Parts, read_parts
from ppl.datamodules.base import Split

_NUM_SHOWN = 10


def run_cache(options: argparse.Namespace, words: Sequence[str]) -> None:
    """Fill the folder of a recipe's cache with the features of its media.

    Args:
        options: The subcommand's own.
        words: Recipe, overlays and overrides, as ``ppl fit`` takes them.

    Raises:
        ValueError: The recipe is not accepted, the disk is too small, or media cannot be read; these are listed when
            all others are done.
    """
    console = Console(highlight=False, soft_wrap=True)
    parts = read_parts(words)
    splits: list[Split] = options.split or [name for name in ("train", "val") if parts.data.has_split(name)]
    media = [media_of(parts.data.dataset(split)) for split in splits]
    infos = [info for each in media for info in each.infos]
    shares = estimate(parts.model, infos, parts.folder.storage)
    needed = sum(share.bytes for share in shares)
    _show_estimate(console, parts, shares, " and ".join(splits))
    free = check_space(needed, parts.folder)
    console.print(f"{size(needed)} at most; {size(free)} free")
    if options.dry_run:
        return
    abandoned = parts.folder.remove_abandoned()
    fill = FillModule(parts.model, media, parts.data.batch_size, parts.data.num_workers)
    begin = time.perf_counter()
    parts.trainer.predict(fill, return_predictions=False)
    _show_summary(console, fill, abandoned, time.perf_counter() - begin)
    if fill.problems:
        shown = "\n".join(f"  {problem}" for problem in fill.problems[:_NUM_SHOWN])
        rest = len(fill.problems) - _NUM_SHOWN
        msg = (
            f"got {len(fill.problems)} of {len(infos)} media that cannot be read, expected all of them; mend or remove "
            f"them, and run this again:\n{shown}" + (f"\n  and {rest} more" if rest > 0 else "")
        )
        raise ValueError(msg)


def _show_estimate(console: Console, parts: Parts, shares: Sequence[Share], splits: str) -> None:
    folder = parts.folder
    how = folder.storage + (", before zstd" if folder.compression == "zstd" else "")
    table = Table(title=f"features of {splits} for {folder.folder} ({how})")
    for heading in ("media", "frames", "number", "each", "together"):
        table.add_column(heading, justify="left" if heading == "media" else "right")
    for share in shares:
        table.add_row(share.kind, str(share.frames), str(share.media), size(share.bytes_each), size(share.bytes))
    console.print(table)


def _show_summary(console: Console, fill: FillModule, abandoned: int, seconds: float) -> None:
    cache = fill.model.cache
    assert cache is not None
    console.print(
        f"{fill.num_written} written ({size(fill.bytes_written)}), {fill.num_kept} already there, "
        f"{len(fill.problems)} not readable, {cache.num_refused} with values that overflow {fill.folder.storage}, "
        f"{abandoned} left by killed processes removed; "
        f"{seconds:.0f} s; {size(fill.folder.num_bytes())} in {fill.folder.folder}"
    )
