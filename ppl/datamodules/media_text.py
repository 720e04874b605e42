"""The text that stands for a medium: its placeholders, and what some models were trained to see around them."""

from __future__ import annotations

from collections.abc import Sequence

from ppl.batches import MediaText
from ppl.datamodules.records import PLACEHOLDER
from ppl.datamodules.templates import Segment


def render_medium(
    text: MediaText,
    token: str,
    num_groups: int,
    times: tuple[float, ...] = (),
    duration: float = 0.0,
    *,
    is_video: bool,
) -> str:
    """Write one placeholder for each stretch of a medium's visual tokens, and the fixed text around them.

    Args:
        text: What surrounds placeholders.
        token: The placeholder.
        num_groups: Stretches.
        times: When each frame of a video appears, in seconds; needed by a note about them.
        duration: Seconds of the whole video.
        is_video: Whether labels and the note apply.

    Raises:
        ValueError: The note needs the times of frames, and they are unknown.
    """
    stretch = text.opening + token + text.closing
    if not is_video:
        return stretch * num_groups
    labels = [text.frame_label.format(number=number) for number in range(1, num_groups + 1)]
    rendered = text.frame_separator.join(label + stretch for label in labels)
    if text.video_note and not times:
        raise ValueError(
            "got a video without the times of its frames, expected them: the model was trained with a sentence about "
            "them; read videos from files, or set time_instruction: false on the backbone"
        )
    listed = ",".join(f"{time:.2f}s" for time in times)
    return rendered + text.video_note.format(duration=f"{duration:.2f}", num_frames=len(times), times=listed)


def insert_media(pieces: Sequence[Segment], texts: Sequence[str]) -> list[Segment]:
    """Put the texts of media, in order, where pieces have placeholders.

    Args:
        pieces: Of a rendered conversation, with as many placeholders as there are texts.
        texts: What `render_medium` wrote for each medium.
    """
    remaining = iter(texts)
    replaced = []
    for piece in pieces:
        first, *others = piece.text.split(PLACEHOLDER)
        replaced.append(Segment(first + "".join(next(remaining) + other for other in others), piece.trains))
    return replaced
