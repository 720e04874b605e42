"""Subtitles, and those that are spoken while the sampled frames are shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

_FONT = re.compile(r'<font color="white" size=".72c">(.*?)</font>')
"""What Video-MME's subtitles are wrapped in, and PPLLaVA's and lmms-eval's code looks for."""


class Subtitle(NamedTuple):
    """What is said from ``start`` to ``end``, in seconds."""

    start: float
    end: float
    text: str
    """With its tags, lines joined by blanks."""

    @property
    def plain(self) -> str:
        """The text without tags."""
        return " ".join(re.sub(r"<[^>]*>", " ", self.text).split())

    @property
    def tagged(self) -> str | None:
        """The text inside Video-MME's font tag; None without one."""
        found = _FONT.search(self.text)
        return None if found is None else found[1]


@lru_cache(maxsize=2)
def read_subtitles(file: str) -> tuple[Subtitle, ...]:
    """Read a SubRip file.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is something else.
    """
    import pysubs2  # for those who use it

    try:
        events = pysubs2.SSAFile.from_string(
            Path(file).read_text(encoding="utf-8-sig"), format_="srt", keep_html_tags=True
        )
    except pysubs2.exceptions.Pysubs2Error as error:
        msg = f"got {file}, which is no SubRip file ({error}), expected the subtitles that the benchmark comes with"
        raise ValueError(msg) from error
    return tuple(
        Subtitle(event.start / 1000, event.end / 1000, event.text.replace("\\N", " ").strip()) for event in events
    )


def spoken_at(subtitles: Sequence[Subtitle], times: Iterable[float]) -> list[str]:
    """Texts of the subtitles that are on screen at any of some times, each once, in order, without tags."""
    moments = list(times)
    return [said.plain for said in subtitles if said.plain and any(said.start <= t < said.end for t in moments)]


def tagged_at(subtitles: Sequence[Subtitle], frames: Iterable[int], fps: float, *, shuffled: bool) -> list[str]:
    """Texts that PPLLaVA and lmms-eval find for numbered frames.

    (farewellthree/PPLLaVA, ``ppllava/test/video_mme/utils.py``; lmms-eval 0.7.3, ``tasks/videomme/utils.py``.) Of
    subtitles with the same times the last is taken, and one outside Video-MME's font tag is passed over.

    Args:
        subtitles: All of the video's.
        frames: Numbers of the frames shown.
        fps: Frames a second.
        shuffled: In the order of a Python set of their numbers, as the code does; otherwise as spoken.
    """
    spans = {(said.start, said.end): said for said in subtitles}
    known = [(int(start * fps), int(end * fps), said) for (start, end), said in spans.items()]
    numbers: list[int] = []
    for frame in frames:
        numbers += [i for i, (first, stop, _) in enumerate(known) if first <= frame < stop]
    chosen = list(set(numbers)) if shuffled else sorted(set(numbers))
    return [text for i in chosen if (text := known[i][2].tagged) is not None]
