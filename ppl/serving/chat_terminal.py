"""A conversation in the terminal: lines with a history that outlives it, commands, and answers that Ctrl-C ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from ppl.serving.chat_commands import run_command
from ppl.serving.chat_output import ChatOutput
from ppl.serving.dialogue import Dialogue

try:
    import readline
except ImportError:  # Python for Windows has none
    readline = None

_MOST_LINES = 1000
"""Of the history."""


def converse(dialogue: Dialogue, output: ChatOutput, history: Path | None) -> None:
    """Answer lines and do what commands say, until an empty line, Ctrl-C or Ctrl-D.

    Args:
        dialogue: That goes on.
        output: Where answers go.
        history: Keeps the lines for the next conversation; None: nothing does.
    """
    output.say("ask; /help lists commands, an empty line ends")
    with kept_lines(history, output) as keep:
        while line := _read():
            keep()
            try:
                if line.startswith("/") and not line.startswith("//"):
                    output.say(run_command(dialogue, line))
                else:
                    output.answer(dialogue, line.replace("//", "/", 1) if line.startswith("//") else line)
            except KeyboardInterrupt:
                output.break_off()
                output.say("stopped; what was not finished is forgotten")
            except torch.OutOfMemoryError as error:
                dialogue.survive(error)
                output.break_off()
                output.refuse(error)
            except (ValueError, OSError) as error:
                output.refuse(error)


def history_file() -> Path:
    """Where lines are kept: in the user's folder for the state of programs."""
    folder = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
    return Path(folder) / "ppl/chat_history"


@contextmanager
def kept_lines(file: Path | None, output: ChatOutput) -> Iterator[Callable[[], None]]:
    """Let the arrow keys find the lines of earlier conversations; what is yielded adds this one's newest to them."""
    if readline is None or file is None:
        yield lambda: None
        return
    readline.clear_history()
    readline.set_history_length(_MOST_LINES)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)  # questions are nobody else's business
        readline.read_history_file(file)
    except OSError as error:
        output.say(f"lines are not kept: {error}")
        yield lambda: None
        return
    lines, known = readline, readline.get_current_history_length()

    def keep() -> None:
        nonlocal known
        new, known = lines.get_current_history_length() - known, lines.get_current_history_length()
        lines.append_history_file(new, file)

    yield keep


def _read() -> str:
    """A line; empty at the end of the input and after Ctrl-C."""
    try:
        if sys.stdout.isatty():
            return input("> ").strip()
        print("> ", end="", file=sys.stderr, flush=True)  # answers go to a file, and nothing else may
        return input().strip()
    except (EOFError, KeyboardInterrupt):
        print(file=sys.stderr)
        return ""
