"""Text of an answer while it is generated: cut at a stop string, and stopped when nobody listens any more."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from threading import Event, Thread, current_thread

from torch import Tensor
from transformers import PreTrainedTokenizerBase
from transformers.generation.streamers import BaseStreamer

from ppl.modules.stopping import INCOMPLETE, before_stop

Generate = Callable[[BaseStreamer | None, Event], Tensor]
"""Generates one row's tokens, tells a streamer of each, and ends soon after the event is set."""


def stream_answer(
    generate: Generate, tokenizer: PreTrainedTokenizerBase, stop_strings: Sequence[str], *, streams: bool
) -> Generator[str, None, str]:
    """Run ``generate`` in a thread and yield its text; closing the iterator ends both, within a step of the model.

    Args:
        generate: See `Generate`; what it raises is raised here.
        tokenizer: Turns tokens into text.
        stop_strings: What ends the answer; no part of one is yielded.
        streams: Whether tokens are known as they come; otherwise (beams) the text follows at the end.

    Returns:
        All of the text.
    """
    streamer = _Tokens()
    cancelled = Event()
    workers: list[Thread] = []

    def run() -> None:
        workers.append(current_thread())
        try:
            tokens = generate(streamer if streams else None, cancelled)
            if not streams:
                streamer.put(tokens)
        finally:
            streamer.queue.put(None)

    pieces = []
    pool = ThreadPoolExecutor(1, "answer")
    worker = pool.submit(run)
    try:
        for piece in until_stop(texts_of(iter(streamer.queue.get, None), tokenizer), stop_strings):
            pieces.append(piece)
            yield piece
    finally:
        cancelled.set()
        # the thread that collects garbage closes what is abandoned: it may be the worker, which cannot join itself
        pool.shutdown(wait=current_thread() not in workers)
    worker.result()
    return "".join(pieces)


class _Tokens(BaseStreamer):
    """Hands tokens to another thread, in lists; None ends them. The prompt has none: it is embeddings."""

    def __init__(self) -> None:
        self.queue: SimpleQueue[list[int] | None] = SimpleQueue()

    def put(self, value: Tensor) -> None:
        self.queue.put(value.flatten().tolist())

    def end(self) -> None:
        """Nothing: generation may still fail."""


def texts_of(new_tokens: Iterable[list[int]], tokenizer: PreTrainedTokenizerBase) -> Iterator[str]:
    """Text that each token adds, up to the last whole character; all of them join to what is decoded at once.

    Decoders drop the blank that their first token begins with, and join bytes to characters; so all tokens are decoded
    each time. An answer that ends inside a character may show it differently.
    """
    tokens: list[int] = []
    text, shown = "", 0
    for new in new_tokens:
        tokens += new
        text = str(tokenizer.decode(tokens, skip_special_tokens=True))
        whole = text.rstrip(INCOMPLETE)
        if len(whole) > shown:
            yield whole[shown:]
            shown = len(whole)
    if len(text) > shown:
        yield text[shown:]


def until_stop(pieces: Iterable[str], stop_strings: Sequence[str]) -> Iterator[str]:
    """Pass text on up to the first stop string; what may turn out to be the beginning of one is held back."""
    held = ""
    for piece in pieces:
        held += piece
        shown = before_stop(held, stop_strings)
        stopped = shown != held
        if not stopped:
            shown = held[: len(held) - _possible_stop(held, stop_strings)]
        if shown:
            yield shown
        if stopped:
            return
        held = held[len(shown) :]
    if held:
        yield held


def _possible_stop(text: str, stop_strings: Sequence[str]) -> int:
    """Characters at the end that begin a stop string."""
    lengths = [n for stop in stop_strings for n in range(1, min(len(stop), len(text) + 1)) if text.endswith(stop[:n])]
    return max(lengths, default=0)
