"""Options of every subcommand that looks at one video or image."""

from __future__ import annotations

import argparse


def add_media_arguments(parser: argparse.ArgumentParser) -> None:
    """What `ppl chat` and `ppl heatmap` share: a medium, a checkpoint, and which frames of the clip."""
    parser.add_argument("media", metavar="VIDEO", help="a video or image file, anything FFmpeg or Pillow reads")
    parser.add_argument(
        "--checkpoint",
        default="runs/demo/weighted/checkpoints/last.ckpt",
        help="a checkpoint of `ppl fit` (default: %(default)s, which `make demo` writes)",
    )
    parser.add_argument("--num-frames", type=int, help="frames to sample (default: as in training)")
    parser.add_argument("--start", type=float, help="start of the clip, in seconds")
    parser.add_argument("--end", type=float, help="end of the clip, in seconds")
    parser.add_argument(
        "--cache",
        metavar="FOLDER",
        help="keep the vision tower's features there: model.cache.folder of runs with the same frozen tower, say",
    )
