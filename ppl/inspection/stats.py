"""``ppl data stats``: what annotation files hold."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from rich.console import Console

from ppl.datamodules.lengths import record_kind
from ppl.datamodules.records import MediumRef, Record
from ppl.inspection.bar import bar
from ppl.inspection.check import finish, misuse, new_file, read_all, select
from ppl.inspection.media import Opener, distinct_media, name, told
from ppl.inspection.reading import Fault
from ppl.inspection.report import show_counts, show_table
from ppl.inspection.spans import Span, span_of

Spans = Mapping[MediumRef, Span | Exception]
"""Of each video, or why there is none."""


def run_stats(options: argparse.Namespace) -> None:
    """Show what the command line's files hold; exits with 1 if some of it cannot be read, 2 if misused."""
    console = Console(highlight=False)
    with misuse("stats"):
        selection = select(options)
        opener = Opener(None if selection.data is None else selection.data.decoder, options.workers)
        report = None if options.report is None else new_file(options.report, overwrite=True)
    contents = read_all(selection, "stats")
    with bar("videos read") as advance:
        videos = [ref for ref in distinct_media([r for part in contents for r in part.records]) if ref.kind == "video"]
        spans: dict[MediumRef, Span | Exception] = {}
        for ref, span in zip(videos, opener.each(span_of, videos), strict=True):
            spans[ref] = span
            advance(len(spans), len(videos))
    names = [part.part.name for part in contents]
    kinds = [Counter(record_kind(record) for record in part.records) for part in contents]
    show_counts(console, names, kinds, [len(part.faults) for part in contents])
    rows = [(part.part.name, part.records) for part in contents]
    rows += [("all", [record for part in contents for record in part.records])] if len(contents) > 1 else []
    for title, heads, numbers in TABLES:
        show_table(console, title, ("", *heads), [(name, *numbers(records, spans)) for name, records in rows])
    faults = [fault for part in contents for fault in part.faults]
    for record in (record for part in contents for record in part.records):
        for ref in distinct_media([record]):
            found = spans.get(ref)
            if isinstance(found, Exception):
                faults.append(Fault(record.origin, record.id, name(ref), told(found)))
    finish(console, faults, report)


def _of_turns(records: Sequence[Record], spans: Spans) -> list[str]:
    del spans
    questions = [sum(turn.role == "user" for turn in record.turns) for record in records]
    unanswered = sum(record.turns[-1].role != "assistant" for record in records)
    pairs = sum(record.rejected is not None for record in records)
    mean = f"{np.mean(questions):.1f}" if questions else "-"
    return [str(sum(questions)), mean, str(max(questions, default=0)), str(unanswered), str(pairs)]


def _of_answers(records: Sequence[Record], spans: Spans) -> list[str]:
    del spans
    words = [len(turn.text.split()) for record in records for turn in record.turns if turn.role == "assistant"]
    return [str(len(words)), str(sum(words)), *_spread(words)]


def _of_seconds(records: Sequence[Record], spans: Spans) -> list[str]:
    media = distinct_media(records)
    found = [spans[ref] for ref in media if ref.kind == "video"]
    seconds = [span.seconds for span in found if isinstance(span, Span) and span.seconds is not None]
    counts = [str(len(media) - len(found)), str(len(found)), str(len(found) - len(seconds))]
    return [*counts, f"{sum(seconds):.1f}", *_spread(seconds, 1)]


def _of_frames(records: Sequence[Record], spans: Spans) -> list[str]:
    found = [spans[ref] for ref in distinct_media(records) if ref.kind == "video"]
    frames = [span.frames for span in found if isinstance(span, Span)]
    return [str(sum(frames)), *_spread(frames)]


def _spread(values: Sequence[int | float], digits: int = 0) -> list[str]:
    if not values:
        return ["-", "-", "-"]
    return [f"{value:.{digits}f}" for value in np.quantile(values, [0.5, 0.95, 1.0])]


_SPREAD = ("median", "95 %", "most")
TABLES = (
    ("questions", ("all", "a record", "most", "unanswered", "pairs"), _of_turns),
    ("words of answers", ("answers", "words", *_SPREAD), _of_answers),
    ("media, each once, and seconds of videos", ("images", "videos", "unknown", "all", *_SPREAD), _of_seconds),
    ("frames of videos", ("all", *_SPREAD), _of_frames),
)
"""Title, heads of the columns, and what counts them."""
