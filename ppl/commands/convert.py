"""``ppl convert``."""

from __future__ import annotations

import argparse


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "convert",
        help="rewrite an original checkpoint for transformers' classes: "
        "ppl convert lmms-lab/LLaVA-Video-7B-Qwen2 llava-video-7b",
        description="Rewrite a checkpoint of an original repository as a folder in the hub's layout, which a recipe's "
        "backbone loads. Every tensor is accounted for: one without a place is an error that lists it, one that is "
        "left out has its reason in conversion.json. Pickles are opened for their tensors only, and nothing of them "
        "is run.",
        epilog="example: ppl convert lmms-lab/LLaVA-Video-7B-Qwen2 llava-video-7b. "
        "Afterwards: ppl fit -c … --model.backbone=TARGET/backbone.yaml. docs/convert.md tells more.",
    )
    parser.add_argument("source", metavar="SOURCE", help="a folder, a file beside its config.json, or a hub id")
    parser.add_argument("target", metavar="TARGET", help="folder to write")
    parser.add_argument(
        "--from",
        dest="kind",
        choices=["llava-video", "video-llava", "ppllava"],
        help="what SOURCE is (default: told by the names of its tensors): lmms-lab's LLaVA-Video and LLaVA-OneVision, "
        "LanguageBind's Video-LLaVA, or the released PPLLaVA",
    )
    _add_sources(parser)
    parser.add_argument(
        "--dtype", choices=["bfloat16", "float16", "float32"], help="precision to write (default: as it is)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier conversion")
    parser.set_defaults(run=_run)


def _add_sources(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--revision", default="main", help="branch, tag or commit of a hub id (default: %(default)s)")
    parser.add_argument(
        "--tokenizer",
        metavar="SOURCE",
        help="folder or hub id of the tokenizer, where SOURCE has none that transformers reads",
    )
    parser.add_argument(
        "--vision-tower",
        metavar="SOURCE",
        help="folder or hub id of the vision tower's own repository: its config, where it is not the released "
        "checkpoints', and its weights, where SOURCE does not hold them",
    )
    parser.add_argument(
        "--temporal-attention",
        action="store_true",
        help="video-llava: keep the video tower's attention over frames, which transformers' class lacks and "
        "VideoLlavaBackbone has with temporal_attention: true",
    )


def _run(options: argparse.Namespace) -> None:
    from ppl.conversion.convert import run_convert

    run_convert(options)
