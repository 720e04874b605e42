"""A GPU without room for what was asked: said in words, and survived."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_SENTENCES = 3
"""Of torch's message: what failed, what was asked for, and what the GPU has."""


def in_words(error: torch.OutOfMemoryError) -> str:
    """What was got, what was expected, and what can be changed."""
    got = ". ".join(str(error).split(". ")[:_SENTENCES]).rstrip(".")
    return (
        f"got less memory than this takes ({got}), expected room for it: keep fewer visual tokens (/budget N or "
        "--budget N), pool more (/pooler NAME or --pooler NAME), or show less (a shorter clip, --num-frames N)"
    )


@contextmanager
def told() -> Iterator[None]:
    """End a command in words.

    Raises:
        ValueError: There was not enough memory.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ValueError(in_words(error)) from error
