"""``ppl heatmap``."""

from __future__ import annotations

import argparse

from ppl.commands.media_arguments import add_media_arguments


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    heatmap = commands.add_parser(
        "heatmap",
        help='draw what the model looks at for a question: ppl heatmap clip.mp4 "Who opens the door?"',
        description="Draw the relevance of each frame's patches to each question, which pooling goes by, over the "
        "frames: brighter is more relevant.",
        epilog='example: ppl heatmap clip.mp4 "what colour is the circle ?" -o heatmap.png',
    )
    add_media_arguments(heatmap)
    heatmap.add_argument(
        "questions", metavar="QUESTION", nargs="+", help="one or more; each gets a strip or column of its own"
    )
    heatmap.add_argument("-o", "--output", help="file to write (default: heatmap.png, or that of --format)")
    heatmap.add_argument(
        "--format",
        choices=["png", "gif", "mp4"],
        default="png",
        help="a sheet of all frames (png), or an animation of one frame after the other (default: %(default)s)",
    )
    heatmap.add_argument(
        "--fps", type=float, default=2.0, help="frames a second of an animation (default: %(default)s)"
    )
    heatmap.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from ppl.serving.heatmap import run_heatmap

    run_heatmap(options)
