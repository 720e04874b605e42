"""Options of every subcommand that asks a model."""

from __future__ import annotations

import argparse


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Which model, where it runs, and how it reads videos."""
    parser.add_argument(
        "--checkpoint",
        default="runs/demo/weighted/checkpoints/last.ckpt",
        help="a checkpoint of `ppl fit`, or a folder of `ppl export` (default: %(default)s, which `make demo` writes)",
    )
    parser.add_argument("--base", metavar="FOLDER", help="the backbone that an adapter was trained upon, if it moved")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, … (default: a GPU if there is one)")
    parser.add_argument("--num-frames", type=int, help="frames to sample (default: as in training)")
    parser.add_argument(
        "--cache",
        metavar="FOLDER",
        help="keep the vision tower's features there: model.cache.folder of runs with the same frozen tower, say",
    )


def add_media_arguments(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """What `ppl chat` and `ppl heatmap` share: a medium, a checkpoint, and which frames of the clip."""
    number = None if required else "?"
    text = "a video or image file, anything FFmpeg or Pillow reads"
    parser.add_argument("media", metavar="VIDEO", nargs=number, help=text)
    add_model_arguments(parser)
    parser.add_argument("--start", type=float, help="start of the clip, in seconds")
    parser.add_argument("--end", type=float, help="end of the clip, in seconds")
