"""``ppl heatmap``: the frames of a video with their relevance to one or more questions laid over them."""

from __future__ import annotations

import argparse
from pathlib import Path

from ppl.serving import out_of_memory
from ppl.serving.animation import MOST_GIF_FPS, write_gif, write_mp4
from ppl.serving.frame_relevance import frame_relevance
from ppl.serving.launch import open_session
from ppl.serving.overlays import heatmap_pictures, heatmap_sheet

_SLOWEST, _FASTEST = 0.1, 100.0
"""Pictures a second; a GIF allows fewer still."""


def run_heatmap(options: argparse.Namespace) -> None:
    """Score ``options.media`` against each of ``options.questions`` and write the picture or animation.

    The medium is decoded and encoded once. The file goes to ``options.output``, or to ``heatmap.<format>``.

    Raises:
        ValueError: A question is empty, the output's suffix is another format's, ``fps`` is out of range, or there is
            not enough memory.
    """
    if not all(question.strip() for question in options.questions):
        msg = "got an empty question, expected one to score the frames against"
        raise ValueError(msg)
    fastest = MOST_GIF_FPS if options.format == "gif" else _FASTEST
    if not _SLOWEST <= options.fps <= fastest:
        msg = f"got --fps {options.fps:g}, expected {_SLOWEST:g} to {fastest:g} pictures a second for {options.format}"
        raise ValueError(msg)
    output = Path(options.output or f"heatmap.{options.format}")
    if output.suffix.lower() not in {"", f".{options.format}"}:
        msg = (
            f"got {output} to write {options.format} to, expected a name that ends in .{options.format}; "
            "rename it or choose another --format"
        )
        raise ValueError(msg)
    with out_of_memory.told():
        session = open_session(options)
        frames = session.frames
        medium, inputs = session.media[-1].info, session.processor.inputs
        relevances = [frame_relevance(session.relevance(question), medium, inputs) for question in options.questions]
    output.parent.mkdir(parents=True, exist_ok=True)
    if options.format == "png":
        heatmap_sheet(frames, relevances, options.questions).save(output, format="PNG")
    else:
        write = {"gif": write_gif, "mp4": write_mp4}[options.format]
        write(output, heatmap_pictures(frames, relevances, options.questions), options.fps)
    print(f"wrote {output}: {len(frames)} frame(s), {', '.join(map(repr, options.questions))}")
