"""``ppl chat``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from ppl.commands.media_arguments import add_media_arguments


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    chat = commands.add_parser(
        "chat",
        help='ask about a video: ppl chat clip.mp4 "Who opens the door?"',
        description="Ask one question; or hold a conversation in the terminal, where /help lists commands; or answer "
        "the lines of a pipe; or, with --questions, a file of questions. Only answers go to the standard output.",
        epilog='example: ppl chat clip.mp4 "what colour is the circle ?" --budget 64. docs/chat.md tells more.',
    )
    add_media_arguments(chat, required=False)
    chat.add_argument("question", nargs="?", help="without one, a conversation: the video is encoded once")
    chat.add_argument(
        "--add", metavar="FILE", action="append", default=[], help="a further video or image; may be given repeatedly"
    )
    _add_ways_to_ask(chat)
    _add_pooling(chat)
    _add_generation(chat)
    chat.set_defaults(run=_run)
    chat.parse_known_args = _QuestionLast(chat)


def _add_ways_to_ask(chat: argparse.ArgumentParser) -> None:
    chat.add_argument("--json", action="store_true", help="a line of JSON for each answer, with tokens and times")
    chat.add_argument(
        "--questions",
        metavar="FILE",
        help="JSON lines to answer, a conversation each: with question (or questions) and video, image or media, or of "
        "any form that training reads; those without media are about VIDEO",
    )
    chat.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="append the answers to --questions there; what it holds is not asked again (default: print them)",
    )
    chat.add_argument("--media-root", metavar="FOLDER", help="media of --questions lie here (default: beside the file)")
    chat.add_argument(
        "--no-history",
        dest="history",
        action="store_false",
        help="do not keep the lines typed for the next conversation (default: in ~/.local/state/ppl/chat_history)",
    )


def _add_pooling(chat: argparse.ArgumentParser) -> None:
    chat.add_argument(
        "--pooler",
        metavar="NAME",
        help="pool otherwise than in training: average, max, … (recipes/parts/poolers), or a file like those there",
    )
    chat.add_argument("--budget", type=int, metavar="N", help="keep each video or image within N visual tokens")
    chat.add_argument(
        "--policy",
        choices=("per-turn", "first-turn", "union"),
        default="per-turn",
        help="which question of a conversation guides pooling: the newest one, the first, or all so far; further "
        "questions are answered soonest under first-turn (default: %(default)s)",
    )


def _add_generation(chat: argparse.ArgumentParser) -> None:
    chat.add_argument(
        "--max-new-tokens", type=int, default=128, help="longest answer, in tokens (default: %(default)s)"
    )
    chat.add_argument("--temperature", type=float, default=0.0, help="above 0 for sampling (default: the likeliest)")
    chat.add_argument(
        "--top-p",
        type=float,
        default=1.0,
        help="sample from the likeliest tokens whose probabilities sum to this (default: %(default)s, all)",
    )
    chat.add_argument(
        "--top-k", type=int, default=0, help="sample from so many likeliest tokens (default: %(default)s, all)"
    )
    chat.add_argument(
        "--num-beams",
        type=int,
        default=1,
        help="follow so many answers at once; shown at the end (default: %(default)s)",
    )
    chat.add_argument(
        "--repetition-penalty",
        type=float,
        default=1.0,
        help="above 1 against repeated words (default: %(default)s, off)",
    )
    chat.add_argument(
        "--seed", type=int, help="of sampling, for an answer that can be repeated (default: a new one each time)"
    )
    chat.add_argument("--stop", action="append", default=[], help="text that ends an answer; may be given repeatedly")


class _QuestionLast:
    """Takes a question behind options too, where argparse looks for VIDEO and question side by side only.

    Args:
        parser: Whose place it takes.
    """

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parse = parser.parse_known_args

    def __call__(self, args: Sequence[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:  # noqa: ANN401
        """As `argparse.ArgumentParser.parse_known_args`."""
        known, unknown = self.parse(args, namespace)
        if known.media is not None and known.question is None and len(unknown) == 1 and not unknown[0].startswith("-"):
            known.question = unknown.pop()
        return known, unknown


def _run(options: argparse.Namespace) -> None:
    from ppl.serving.chat import run_chat

    run_chat(options)
