"""``ppl chat``: one answer, or a conversation in the terminal."""

from __future__ import annotations

import argparse

from rich.console import Console

from ppl.serving.launch import open_session
from ppl.serving.session import ChatSession


def run_chat(options: argparse.Namespace) -> None:
    """Answer ``options.question``, or ask for questions until an empty line or the end of input.

    Raises:
        ValueError: The question is empty.
    """
    if options.question is not None and not options.question.strip():
        msg = "got an empty question; write one, or leave it out for a conversation"
        raise ValueError(msg)
    status = Console(stderr=True)
    with status.status("loading the model and encoding the video"):
        session = open_session(options)
    status.print(f"{len(session.frames)} frame(s), {session.num_visual_tokens} visual tokens", style="dim")
    if options.question is not None:
        _answer(session, options.question, options.max_new_tokens)
        return
    status.print("ask; an empty line ends", style="dim")
    while question := _read():
        try:
            _answer(session, question, options.max_new_tokens)
        except ValueError as error:
            status.print(f"[red]{error}[/red]")


def _read() -> str:
    try:
        return input("> ").strip()
    except EOFError:
        return ""


def _answer(session: ChatSession, question: str, max_new_tokens: int) -> None:
    for piece in session.ask(question, max_new_tokens):
        print(piece, end="", flush=True)
    print()
