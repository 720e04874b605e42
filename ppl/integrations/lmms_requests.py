"""What lmms-eval asks, in our terms: turns, media, the text that guides the pooling, and how to answer."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal, NamedTuple

from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from ppl.datamodules.images import decode_image
from ppl.datamodules.media_reading import DecodedMedium
from ppl.datamodules.processing import Processor
from ppl.datamodules.records import PLACEHOLDER, MediumRef, Role, Turn
from ppl.modules.generation import Generation
from ppl.serving.encoded_media import is_image

UNSAID_STOP = ["\n\n"]
"""What lmms-eval puts into ``until`` of tasks that name no stop: the separator of few-shot examples. It would cut
answers of several paragraphs, so it is not obeyed."""

GUIDES: dict[str, tuple[str, ...]] = {
    "videomme": ("question", "options"),
    "mvbench": ("question", "candidates"),
    "egoschema": ("question", "option"),
    "nextqa_mc": ("question", "a0", "a1", "a2", "a3", "a4"),
    "longvideobench": ("question", "option0", "option1", "option2", "option3", "option4"),
    "videochatgpt_consistency": ("question_1", "question_2"),
    "mmmu": ("question", "options"),
    "mathvista": ("question", "choices"),
    "mmbench": ("question", "A", "B", "C", "D"),
    "seedbench": ("question", "choice_a", "choice_b", "choice_c", "choice_d"),
    "scienceqa": ("question", "choices"),
}
"""Columns that guide the pooling, by what a task's name begins with: question and options, as PPLLaVA's evaluation."""
QUESTION_COLUMNS = ("question", "Question", "query", "prompt")
"""Looked for in this order in the documents of other tasks; where none is there, the whole prompt guides."""


class Visual(NamedTuple):
    """An image or a video that a task shows."""

    kind: Literal["image", "video"]
    source: str | Image.Image
    """A file, or an image in memory."""
    start: float | None = None
    end: float | None = None

    def read(self, processor: Processor) -> DecodedMedium:
        """Decode it, videos as the processor samples them."""
        if isinstance(self.source, str):
            return processor.read(MediumRef(self.kind, self.source, self.start, self.end))
        if self.source.mode == "RGB":
            pixels = pil_to_tensor(self.source)
        else:
            file = BytesIO()
            self.source.save(file, "PNG", compress_level=1)
            pixels = decode_image(file)
        digest = hashlib.sha256(pixels.numpy().tobytes()).hexdigest()
        return DecodedMedium("image", pixels[None], f"{digest}|{tuple(pixels.shape)}")


@dataclass(frozen=True)
class Asked:
    """One question of lmms-eval."""

    turns: list[Turn]
    visuals: list[Visual]
    """In the order of their marks in the turns."""


def asked_simply(context: str, visuals: Sequence[object]) -> Asked:
    """A prompt and what it is about: each ``<image>`` of the prompt stands for one, or all come before it."""
    if context.count("<image>") == len(visuals) and visuals:
        text = context.replace("<image>", PLACEHOLDER)
    else:
        text = f"{PLACEHOLDER}\n" * len(visuals) + context
    return Asked([Turn("user", text)], [_visual(each) for each in visuals])


def asked_in_messages(messages: Sequence[Mapping[str, Any]]) -> Asked:
    """Messages whose content is a text, or parts of text, image and video; media that begin a turn are on lines.

    Raises:
        ValueError: A part is something else: a sound.
    """
    turns, visuals = list[Turn](), list[Visual]()
    for message in messages:
        role: Role = message["role"]
        if isinstance(message["content"], str):
            turns.append(Turn(role, message["content"]))
            continue
        text = ""
        for part in message["content"]:
            if part["type"] == "text":
                text += part["text"]
                continue
            visuals.append(_visual_part(part))
            at_start = not text.replace(PLACEHOLDER, "").strip("\n")
            text += f"{PLACEHOLDER}\n" if at_start else PLACEHOLDER
        turns.append(Turn(role, text))
    return Asked(turns, visuals)


def guide(task: str, doc: Mapping[str, Any], prompt: str) -> str:
    """The text that guides the pooling: what is asked, without instructions and subtitles.

    Args:
        task: Its name in lmms-eval: see ``GUIDES`` and ``QUESTION_COLUMNS``.
        doc: The row of its data set.
        prompt: All that is said, which guides where the row has no question, with a warning.
    """
    names = [name for name in GUIDES if task.startswith(name)]
    columns = GUIDES[max(names, key=len)] if names else QUESTION_COLUMNS
    found = [line for name in columns for line in _lines(doc.get(name))]
    if found:
        return "\n".join(found) if names else found[0]
    warnings.warn(
        f"task {task} has none of the columns {columns}, so its whole prompt guides the pooling, instructions "
        "included: add the task to ppl.integrations.lmms_requests.GUIDES",
        stacklevel=2,
    )
    return prompt.replace(PLACEHOLDER, " ").strip()


def generation(arguments: Mapping[str, Any], max_new_tokens: int) -> Generation:
    """How a task wants its answers.

    Args:
        arguments: Its ``generation_kwargs``. Those that are not named here are not ours to obey.
        max_new_tokens: Where it does not say.
    """
    until = arguments.get("until") or []
    until = [until] if isinstance(until, str) else list(until)
    temperature = float(arguments.get("temperature") or 0.0)
    samples = temperature > 0 and arguments.get("do_sample") is not False
    beams = int(arguments.get("num_beams") or 1)
    return Generation(
        max_new_tokens=int(arguments.get("max_new_tokens") or max_new_tokens),
        temperature=temperature if samples else 0.0,
        top_p=float(arguments.get("top_p") or 1.0) if samples else 1.0,
        top_k=int(arguments.get("top_k") or 0) if samples else 0,
        num_beams=1 if samples else beams,
        stop_strings=() if until == UNSAID_STOP else tuple(stop for stop in until if stop),
    )


def _visual(value: object) -> Visual:
    if isinstance(value, Image.Image):
        return Visual("image", value)
    if isinstance(value, str):
        return Visual("image" if is_image(value) else "video", value)
    if isinstance(value, dict):  # a clip
        return _visual_part({"type": "video", "url": value})
    msg = f"got a {type(value).__name__} to look at, expected an image or a file's path: ppl sees images and videos"
    raise ValueError(msg)


def _visual_part(part: Mapping[str, Any]) -> Visual:
    kind, source = part["type"], part.get("url")
    if isinstance(source, dict):  # how tasks for simple models name clips
        path = source.get("url") or source.get("path")
        part, source = {"start_time": source.get("video_start"), "end_time": source.get("video_end")}, path
    if kind not in ("image", "video") or not isinstance(source, (str, Image.Image)):
        msg = f"got a part {kind!r} with a {type(source).__name__}, expected an image or a video: choose another task"
        raise ValueError(msg)
    return Visual(kind, source, part.get("start_time"), part.get("end_time"))


def _lines(value: object) -> list[str]:
    """A column's text, or texts; lmms-eval writes what is not there as "None"."""
    values = value if isinstance(value, (list, tuple)) else [value]
    texts = [str(each).strip() for each in values if each is not None]
    return [text for text in texts if text and text not in ("None", "nan", "N/A")]
