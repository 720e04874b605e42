"""``ppl convert``: tell what a checkpoint is by what is in it, convert it and say what was done.

Axes: none; tensors pass through whole.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from rich.console import Console

from ppl import __version__
from ppl.conversion.folder import BACKBONE, CONVERTED, REPORT, write_folder
from ppl.conversion.llava_video import convert_llava_video
from ppl.conversion.rules import Renamed
from ppl.conversion.source import Source, open_source
from ppl.conversion.video_llava import convert_video_llava
from ppl.folders import check_absent

Kind = Literal["ppllava", "video-llava", "llava-video"]
SIGNS: dict[Kind, str] = {
    "ppllava": "multi_modal_projector.clip_text_model.",
    "video-llava": "model.video_tower.video_tower.",
    "llava-video": "model.mm_projector.",
}
"""Beginnings of names; the first that is there tells the kind."""


def run_convert(options: argparse.Namespace) -> None:
    """Convert ``options.source`` into the folder ``options.target``.

    Raises:
        FileNotFoundError: The source is not to be had.
        ValueError: It is no checkpoint of a known kind, something in it is not as expected, or the target exists.
    """
    target = Path(options.target)
    check_absent(target, CONVERTED, overwrite=options.overwrite)
    source = open_source(
        options.source,
        options.revision,
        options.tokenizer,
        options.vision_tower,
        temporal_attention=options.temporal_attention,
    )
    kind = _kind(options.kind, source.tensors)
    if source.temporal_attention and kind != "video-llava":
        msg = f"got --temporal-attention for {kind}, expected it for video-llava, which alone has some: leave it out"
        raise ValueError(msg)
    account = {
        **_origin(options.source, source.folder),
        "tokenizer": _origin(options.tokenizer or options.source, source.tokenizer),
        "vision_tower": source.vision_tower and _origin(options.vision_tower, source.vision_tower),
        "kind": kind,
        "ppl": __version__,
        "transformers": transformers.__version__,
    }
    dtype = None if options.dtype is None else getattr(torch, options.dtype)
    written, assumptions, use = _convert(kind, source, target, account, dtype, overwrite=options.overwrite)
    _say(kind, target, written, assumptions, use)


def detect(names: Iterable[str]) -> Kind:
    """Tell a checkpoint's kind by names that no other kind has.

    Raises:
        ValueError: None of them is there.
    """
    known = list(names)
    found = _found(known)
    if found is not None:
        return found
    shown = ", ".join(known[:5])
    signs_told = ", ".join(f"{sign}* ({kind})" for kind, sign in SIGNS.items())
    msg = (
        f"got tensors of no original checkpoint that is known here ({shown} …), expected some of {signs_told}; a "
        "checkpoint in transformers' format needs no conversion: give it as the backbone's source"
    )
    raise ValueError(msg)


def _found(names: Iterable[str]) -> Kind | None:
    known = list(names)
    return next((kind for kind, sign in SIGNS.items() if any(name.startswith(sign) for name in known)), None)


def _kind(asked: Kind | None, names: Iterable[str]) -> Kind:
    """The kind that was asked for, unless there are signs of another; else what `detect` says."""
    if asked is None:
        return detect(names)
    found = _found(names)
    if found not in (None, asked):
        msg = (
            f"got --from {asked} for a checkpoint of the kind {found} (it has {SIGNS[found]}*), expected "
            f"--from {found}, or none"
        )
        raise ValueError(msg)
    return asked


def _origin(named: str, folder: Path) -> dict[str, str | None]:
    """How a folder or a hub's repository was named, and the commit that was found of a repository."""
    return {"source": named, "revision": None if Path(named).exists() else folder.name}


def _convert(
    kind: Kind,
    source: Source,
    target: Path,
    account: Mapping[str, Any],
    dtype: torch.dtype | None,
    *,
    overwrite: bool,
) -> tuple[Renamed, Mapping[str, str], str]:
    """Convert and write; return what was renamed, what was assumed, and how the target is used."""
    if kind == "ppllava":
        from ppl.conversion.ppllava import convert_ppllava
        from ppl.conversion.sft_checkpoint import CHECKPOINT, write_checkpoint

        model = convert_ppllava(source)
        write_checkpoint(model, target, account, dtype, overwrite=overwrite)
        return model.weights, {}, f"ppl chat --checkpoint {target / CHECKPOINT} VIDEO QUESTION"
    converted = (convert_llava_video if kind == "llava-video" else convert_video_llava)(source)
    write_folder(converted, target, account, dtype, overwrite=overwrite)
    return converted.weights, converted.assumptions, f"--model.backbone={target / BACKBONE}"


def _say(kind: Kind, target: Path, written: Renamed, assumptions: Mapping[str, str], use: str) -> None:
    console = Console(stderr=True, soft_wrap=True, markup=False, highlight=False)
    console.print(f"{kind}: {len(written.tensors)} tensors written to {target}")
    for reason, count in Counter(written.dropped.values()).items():
        console.print(f"  {count} dropped: {reason}")
    for key, taken in assumptions.items():
        console.print(f"  assumed {key} {taken}")
    console.print(f"  what came from where: {target / REPORT}; use it with {use}")
