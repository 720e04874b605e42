"""What `ppl chat` shows: answers, and nothing else, on the standard output."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any

import torch
from rich.console import Console

from ppl.serving.dialogue import Dialogue
from ppl.serving.out_of_memory import in_words


class ChatOutput:
    """Answers on the standard output, as text or JSON; all else on standard error.

    Args:
        as_json: Print an object a line for each answer.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)

    def answer(self, dialogue: Dialogue, question: str) -> None:
        """Ask, and show the answer as it comes."""
        with closing(dialogue.ask(question)) as pieces:
            for piece in pieces:
                if not self.as_json:
                    print(piece, end="", flush=True)
        row = dialogue.rows[-1]
        if self.as_json:
            self.row(row)
            return
        print(flush=True)
        first, all_of_it = (row["milliseconds"][stage] / 1000 for stage in ("first_token", "answer"))
        self.say(
            f"{row['visual_tokens']} visual tokens, first token after {first:.2f} s, "
            f"{row['answer_tokens']} tokens in {all_of_it:.2f} s"
        )

    def break_off(self) -> None:
        """End the line of an answer that does not come to its end."""
        if not self.as_json:
            print(flush=True)

    def row(self, row: dict[str, Any]) -> None:
        """Print a line of JSON."""
        print(json.dumps(row, ensure_ascii=False), flush=True)

    def say(self, text: str) -> None:
        """Tell the user something beside the answers."""
        self.console.print(text, style="dim")

    def refuse(self, error: Exception) -> None:
        """Tell the user what cannot be done."""
        self.console.print(told(error), style="red")


def told(error: Exception) -> str:
    """An error's message with its notes."""
    if isinstance(error, torch.OutOfMemoryError):
        return in_words(error)
    return "\n".join([str(error), *getattr(error, "__notes__", [])])
