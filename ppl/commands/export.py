"""``ppl export``."""

from __future__ import annotations

import argparse


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "export",
        help="write a checkpoint as a folder for transformers, peft and ppl: ppl export last.ckpt -o FOLDER --merge",
        description="Write a checkpoint of `ppl fit` as a folder. With --merge, or without LoRA, it is the whole model "
        "in the hub's own layout, which plain transformers opens. Otherwise it is what LoRA trained: adapters that "
        "plain peft puts onto the base, projector and aligner beside them. `ppl chat --checkpoint FOLDER` opens both. "
        "What was written is read again and compared before the folder appears.",
        epilog="example: ppl export runs/tiny_sft/checkpoints/last.ckpt -o exported --merge. "
        "docs/export.md tells more.",
    )
    parser.add_argument("checkpoint", metavar="CKPT", help="a checkpoint: a file, or the folder of a sharded one")
    parser.add_argument("-o", "--output", required=True, metavar="FOLDER", help="folder to write")
    parser.add_argument("--merge", action="store_true", help="add LoRA's adapters to the weights")
    parser.add_argument("--force", action="store_true", help="replace an earlier export")
    parser.add_argument(
        "--max-shard-size", default="5GB", metavar="SIZE", help="most that a file of weights holds (default: 5GB)"
    )
    parser.add_argument(
        "--base", metavar="SOURCE", help="folder or hub id of the base, if it is no longer where the run read it"
    )
    parser.add_argument(
        "--push-to-hub", metavar="REPOSITORY", help="send the folder to the hub, too; a new repository is private"
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from ppl.exporting.export import run_export

    run_export(options)
