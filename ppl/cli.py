"""The ``ppl`` program: Lightning's subcommands from YAML recipes, and the tools around a trained model.

Heavy libraries are imported by the subcommand that needs them, so that ``ppl --help`` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from ppl import __version__
from ppl.runtime import configure_process

LIGHTNING_SUBCOMMANDS = {
    "fit": "train from a recipe: ppl fit -c recipes/experiments/tiny_sft.yaml",
    "validate": "loss and accuracy on the validation split",
    "test": "loss and accuracy on the test split",
    "predict": "answer the predict split and write the answers as JSONL",
}


def main(args: Sequence[str] | None = None) -> None:
    """Run one subcommand; ``args`` default to the command line."""
    configure_process()
    words = list(sys.argv[1:] if args is None else args)
    is_training = bool(words) and words[0] in LIGHTNING_SUBCOMMANDS
    options = None if is_training else build_parser().parse_args(words)
    try:
        if options is None:
            _train(args)
        else:
            options.run(options)
    except (ValueError, FileNotFoundError) as error:
        told = None if os.environ.get("PPL_TRACEBACK") == "1" else _told_to_the_user(error)
        if told is None:
            raise
        sys.exit("\n".join([f"ppl {words[0]}: {told}", *getattr(told, "__notes__", [])]))


def _told_to_the_user(error: BaseException | None) -> BaseException | None:
    """Find the message of ours, or that of a missing file, in what was raised; anything else is a bug to trace.

    jsonargparse wraps what a class raises when it is made.
    """
    while error is not None:
        files = [
            frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)
        ]  # none if never raised
        ours = bool(files) and Path(files[-1]).is_relative_to(Path(__file__).parent)
        if isinstance(error, FileNotFoundError) or (ours and isinstance(error, ValueError)):
            return error
        error = error.__cause__
    return None


def build_parser() -> argparse.ArgumentParser:
    """The parser of everything that is not Lightning's."""
    parser = argparse.ArgumentParser(
        prog="ppl",
        description="Prompt-guided pooling for video language models.",
        epilog="`ppl SUBCOMMAND --help` shows a subcommand's options; recipes live in recipes/. "
        "PPL_TRACEBACK=1 in the environment shows where in the program an error arose.",
    )
    parser.add_argument("--version", action="version", version=f"ppl {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="SUBCOMMAND")
    for name, text in LIGHTNING_SUBCOMMANDS.items():
        commands.add_parser(name, help=text, add_help=False)
    chat = commands.add_parser("chat", help='ask about a video: ppl chat clip.mp4 "Who opens the door?"')
    _add_media_arguments(chat)
    chat.add_argument("question", nargs="?", help="without one, a conversation: the video is encoded once")
    chat.add_argument("--max-new-tokens", type=int, default=128, help="longest answer, in tokens")
    chat.set_defaults(run=_chat)
    heatmap = commands.add_parser("heatmap", help="draw what the model looks at for a question")
    _add_media_arguments(heatmap)
    _add_heatmap_arguments(heatmap)
    heatmap.set_defaults(run=_heatmap)
    _add_ablate(commands)
    _add_redundancy(commands)
    return parser


def _add_ablate(commands: argparse._SubParsersAction) -> None:
    ablate = commands.add_parser(
        "ablate",
        help="train, test and compare a grid of recipes: ppl ablate -c recipes/ablations/tiny_pooling.yaml",
        epilog="Finished cells are never run again: start it once more after an interruption, or with more seeds.",
    )
    ablate.add_argument("-c", "--config", required=True, help="an ablation, such as those in recipes/ablations")
    ablate.add_argument("-o", "--output", help="folder (default: runs/ablations/ and the ablation's name)")
    ablate.add_argument("--seeds", type=int, nargs="+", help="instead of the ablation's own")
    ablate.add_argument(
        "--devices", help="one process at a time on each: 0,1 for GPUs, cpu,cpu (default: all GPUs, else up to 4 cores)"
    )
    ablate.add_argument("--report-only", action="store_true", help="run nothing, write the report of what is finished")
    ablate.add_argument("--dry-run", action="store_true", help="print every command and whether it has to be run")
    ablate.add_argument(
        "arguments", nargs="*", metavar="-- WORD", help="words for `ppl fit` and `ppl test` of all cells"
    )
    ablate.set_defaults(run=_ablate)


def _add_media_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("media", metavar="VIDEO", help="a video or image file, anything FFmpeg or Pillow reads")
    parser.add_argument(
        "--checkpoint",
        default="runs/demo/weighted/checkpoints/last.ckpt",
        help="a checkpoint of `ppl fit` (default: %(default)s, which `make demo` writes)",
    )
    parser.add_argument("--num-frames", type=int, help="frames to sample (default: as in training)")
    parser.add_argument("--start", type=float, help="start of the clip, in seconds")
    parser.add_argument("--end", type=float, help="end of the clip, in seconds")


def _add_heatmap_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "questions", metavar="QUESTION", nargs="+", help="one or more; each gets a strip or column of its own"
    )
    parser.add_argument("-o", "--output", help="file to write (default: heatmap.png, or that of --format)")
    parser.add_argument(
        "--format",
        choices=["png", "gif", "mp4"],
        default="png",
        help="a sheet of all frames (png), or an animation of one frame after the other (default: %(default)s)",
    )
    parser.add_argument("--fps", type=float, default=2.0, help="frames a second of an animation (default: %(default)s)")


def _add_redundancy(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "redundancy",
        help="measure which share of its video each question needs: ppl redundancy train.jsonl --media-root videos",
        epilog="PPLLaVA's certificate length: frames whose CLIP similarity to the question and its answer exceeds a "
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
    parser.set_defaults(run=_redundancy)


def _train(args: Sequence[str] | None) -> None:
    from ppl.training_cli import run_training_cli

    run_training_cli(args)


def _ablate(options: argparse.Namespace) -> None:
    from ppl.ablation.grid import run_ablate

    run_ablate(options)


def _redundancy(options: argparse.Namespace) -> None:
    from ppl.analysis.redundancy import run_redundancy

    run_redundancy(options)


def _chat(options: argparse.Namespace) -> None:
    from ppl.serving.chat import run_chat

    run_chat(options)


def _heatmap(options: argparse.Namespace) -> None:
    from ppl.serving.heatmap import run_heatmap

    run_heatmap(options)


if __name__ == "__main__":
    main()
