"""``ppl redundancy``."""

from __future__ import annotations

import argparse


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "redundancy",
        help="measure which share of its video each question needs: ppl redundancy train.jsonl --media-root videos",
        epilog="example: ppl redundancy train.jsonl --media-root videos. "
        "PPLLaVA's certificate length: frames whose CLIP similarity to the question and its answer exceeds a "
        "threshold, as a share of all frames. CLIP's cosines are usually 0.2 to 0.35 even where text and picture fit, "
        "so the paper's 0.5 may leave nothing: the quantiles that are printed then, or --relative, help to choose.",
    )
    parser.add_argument("annotations", help="LLaVA's `conversations` or `messages`, a JSON list or JSON lines")
    parser.add_argument("--media-root", help="folder of relative video paths (default: that of the annotations)")
    parser.add_argument("--architecture", default="ViT-L-14-336", help="an open_clip model (default: %(default)s)")
    parser.add_argument(
        "--pretrained", help="its weights, a tag or file (default: openai; none for local-dir:, hf-hub:)"
    )
    parser.add_argument("--fps", type=float, default=2.0, help="frames a second to look at (default: %(default)s)")
    parser.add_argument(
        "--threshold", type=float, default=0.5, help="similarity a relevant frame exceeds (default: %(default)s)"
    )
    parser.add_argument(
        "--relative",
        action="store_true",
        help="stretch each pair's similarities first: its most similar frame is 1, its least similar 0",
    )
    parser.add_argument("--batch-size", type=int, default=32, help="most frames at once (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 … (default: a GPU if there is one)")
    parser.add_argument("-o", "--output", default="redundancy.jsonl", help="JSON lines (default: %(default)s)")
    parser.add_argument("--histogram", metavar="PNG", help="also draw how the certificates are spread")
    parser.add_argument("--top", type=int, default=100, help="most redundant pairs to print (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace results that exist")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from ppl.analysis.redundancy import run_redundancy

    run_redundancy(options)
