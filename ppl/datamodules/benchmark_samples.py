"""The samples of benchmark questions: each video is read once for all the questions about it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from torch.utils.data import Dataset

from ppl.datamodules.frame_sampling import FrameSampler, Linspace, Midpoints, SegmentIndices, SegmentStarts
from ppl.datamodules.media_reading import DecodedMedium, read_medium
from ppl.datamodules.processing import PreparedMedium, Processor, Sample
from ppl.datamodules.records import ByteRange, MediumRef, Record, TableCell, Turn
from ppl.evaluation.items import MEDIA_MARK, Cell, Item, Medium, Shown
from ppl.evaluation.protocol import FrameRule, Frames, Protocol
from ppl.evaluation.rows import Row, prompt_digest

_SAMPLERS: dict[FrameRule, FrameSampler] = {
    "midpoints": Midpoints(),
    "segments": SegmentIndices(),
    "linspace": Linspace(),
    "starts": SegmentStarts(),
}


class AskedSample(NamedTuple):
    """A sample and its row, whose answer is still empty."""

    sample: Sample
    row: Row


class AskedItems(Dataset[list[AskedSample]]):
    """Questions that share their media, a group at a time; only the first of each has their pixels.

    Args:
        groups: The questions.
        total: Questions of the whole benchmark.
        benchmark: Its name.
        protocol: How they are asked.
        processor: Makes the samples.
        model: What answers.
    """

    def __init__(
        self,
        groups: Sequence[Sequence[Item]],
        total: int,
        benchmark: str,
        protocol: Protocol,
        processor: Processor,
        model: str,
    ) -> None:
        self.groups = groups
        self.total = total
        self.benchmark = benchmark
        self.protocol = protocol
        self.processor = processor
        self.model = model

    def __len__(self) -> int:
        """Count the groups."""
        return len(self.groups)

    def __getitem__(self, index: int) -> list[AskedSample]:
        """Read a group's media once and make a sample of each question."""
        items = self.groups[index]
        began = time.perf_counter()
        frames = self.protocol.frames(items[0])
        try:
            decoded = [self._read(medium, frames) for medium in items[0].media]
            prepared = self.processor.prepare(frames_apart(decoded) if frames.apart else decoded)
            took = 1000 * (time.perf_counter() - began) / len(items)
            first, *rest = [self._ask(item, decoded, prepared, took) for item in items]
            return [first, *(_without_pixels(asked) for asked in rest)]
        except Exception as error:  # of any kind: it goes on, and says where it was met
            error.add_note(f"while loading question {items[0].id!r} of {self.benchmark}")
            raise

    def _read(self, medium: Medium, frames: Frames) -> DecodedMedium:
        processor = self.processor
        return read_medium(medium_ref(medium), frames.number, _SAMPLERS[frames.rule], processor.decoder)

    def _ask(
        self, item: Item, decoded: Sequence[DecodedMedium], prepared: Sequence[PreparedMedium], took: float
    ) -> AskedSample:
        shown = [shown_frames(medium) for medium in decoded]
        protocol = self.protocol
        record = asked_record(item, protocol, shown, len(prepared))
        sample = self.processor.assemble(record, prepared, for_generation=True)
        system, user = protocol.system(item) or "", record.turns[-1].text
        row = Row(
            benchmark=self.benchmark,
            protocol=protocol.identity(),
            total=self.total,
            id=item.id,
            cluster=item.cluster,
            groups=item.groups,
            question=item.question,
            options=item.options,
            answer=item.answer,
            answers=item.answers,
            facts=item.facts,
            prompt="\n".join(filter(None, [system, user, protocol.answer_prefix])),
            prompt_hash=prompt_digest(system, user, protocol.answer_prefix, sample.prompt),
            guide=sample.prompt,
            text="",
            model=self.model,
            frames=[list(each.indices) for each in shown],
            visual_tokens=sum(self.processor.inputs.num_visual_tokens(info) for info in sample.media),
            milliseconds={"decode": took},
        )
        return AskedSample(sample, row)


def _without_pixels(asked: AskedSample) -> AskedSample:
    return asked._replace(sample=asked.sample._replace(frames=asked.sample.frames[:0].clone()))


def asked_record(item: Item, protocol: Protocol, shown: Sequence[Shown], num_media: int | None = None) -> Record:
    """The conversation that asks a question, which the model is to go on with.

    Args:
        item: The question.
        protocol: How it is asked.
        shown: What is shown of each of its media.
        num_media: Of the conversation; None: as many as the question has.
    """
    prompt = protocol.prompt(item, shown)
    if MEDIA_MARK not in prompt:
        prompt = f"{MEDIA_MARK}\n" * (len(item.media) if num_media is None else num_media) + prompt
    system = protocol.system(item)
    turns = [Turn("user", prompt)] if system is None else [Turn("system", system), Turn("user", prompt)]
    return Record(
        id=item.id,
        turns=turns,
        media=[medium_ref(medium) for medium in item.media],
        origin=f"question {item.id}",
        guide=protocol.guide(item),
        answer_prefix=protocol.answer_prefix,
    )


def media_record(item: Item, origin: str) -> Record:
    """A question and its media, not yet asked.

    Args:
        item: The question.
        origin: Where it is from.
    """
    return Record(item.id, [Turn("user", item.question)], [medium_ref(medium) for medium in item.media], origin=origin)


def medium_ref(medium: Medium) -> MediumRef:
    """The same medium, as data modules know it."""
    inside = medium.inside
    if isinstance(inside, Cell):
        part = TableCell(inside.row, inside.column, inside.item)
    else:
        part = None if inside is None else ByteRange(inside.offset, inside.size, is_base64=True)
    return MediumRef(medium.kind, medium.path, medium.start, medium.end, medium.fps, inside=part)


def shown_frames(medium: DecodedMedium) -> Shown:
    """What was read of a medium; frames are numbered at the video's average rate."""
    indices = tuple(round(time * medium.fps) for time in medium.times) if medium.fps else ()
    return Shown(indices, medium.times, medium.duration, medium.fps)


def frames_apart(media: Sequence[DecodedMedium]) -> list[DecodedMedium]:
    """Each frame of the media as an image of its own."""
    return [
        DecodedMedium("image", medium.frames[i : i + 1], f"{medium.key}|{i}" if medium.key else "")
        for medium in media
        for i in range(len(medium.frames))
    ]
