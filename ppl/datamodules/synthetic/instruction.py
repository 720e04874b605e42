"""Instruction data of the synthetic world: videos in memory, questions drawn on the fly."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from ppl.datamodules.base import ConversationDataModule, Split
from ppl.datamodules.lengths import record_lengths
from ppl.datamodules.media_reading import DecodedMedium
from ppl.datamodules.processing import Processor, Sample
from ppl.datamodules.records import PLACEHOLDER, MediumRef, Record, Turn
from ppl.datamodules.resumable import Loading
from ppl.datamodules.synthetic.questions import Question, ask, preamble
from ppl.datamodules.synthetic.world import Scene, random_scene, render
from ppl.datamodules.templates import TemplateName

_HELD_OUT_SEEDS = {"val": 1_000_003, "test": 2_000_003, "predict": 2_000_003}


@dataclass(frozen=True)
class QuestionMix:
    """How often each question type is asked, as relative weights; 0 leaves it out."""

    colour: float = 0.18
    shape: float = 0.18
    motion: float = 0.30
    when: float = 0.10
    order: float = 0.08
    exist: float = 0.08
    background: float = 0.08


class SyntheticExample(NamedTuple):
    """One question about one video, before it becomes a sample."""

    scene: Scene
    question: Question
    video: int


class SyntheticQuestions(Dataset[Sample]):
    """Questions about a fixed set of synthetic videos.

    Item i asks about video i modulo the number of videos; a given (seed, i) always asks the same, whatever words stand
    before it.
    """

    def __init__(
        self,
        processor: Processor,
        seed: int,
        num_videos: int,
        num_questions: int,
        mix: QuestionMix,
        *,
        prompt: bool,
        preamble_words: int = 0,
    ) -> None:
        self.processor = processor
        self.seed = seed
        self.num_questions = num_questions
        self.mix = mix
        self.prompt = prompt
        self.preamble_words = preamble_words
        rng = np.random.default_rng(seed)
        self.scenes = [random_scene(rng, num_frames=processor.num_frames) for _ in range(num_videos)]
        self._frames = [torch.from_numpy(render(scene)) for scene in self.scenes]

    def __len__(self) -> int:
        return self.num_questions

    def example(self, index: int) -> SyntheticExample:
        """Draw question ``index``; its text starts with the preamble."""
        video = index % len(self.scenes)
        rng = np.random.default_rng((self.seed, index))
        question = ask(self.scenes[video], asdict(self.mix), rng)
        text = f"{preamble(self.preamble_words, rng)} {question.text}".strip()  # drawn last: the question stays
        return SyntheticExample(self.scenes[video], question._replace(text=text), video)

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.num_questions:
            raise IndexError(index)
        record, video = self._record(index), index % len(self.scenes)
        medium = DecodedMedium("video", self._frames[video], record.media[0].path)
        return self.processor.encode_decoded(record, [medium], for_generation=self.prompt)

    def set_epoch(self, epoch: int) -> None:
        """Every epoch has the same samples."""

    def kinds(self) -> list[str]:
        """All are about a video."""
        return ["video"] * self.num_questions

    def lengths(self) -> list[int]:
        """Positions of each question's sample, by arithmetic."""
        return record_lengths([self._record(index) for index in range(self.num_questions)], self.processor)

    def name(self, index: int) -> tuple[str, str]:
        """A question's id, and where it comes from."""
        return f"{self.seed}-{index}", f"synthetic question {index} of seed {self.seed}"

    def _record(self, index: int) -> Record:
        _, question, video = self.example(index)
        key = f"synthetic|{self.seed}|{video}|{self.processor.num_frames}"
        name, origin = self.name(index)
        return Record(
            id=name,
            turns=[Turn("user", f"{PLACEHOLDER}\n{question.text}"), Turn("assistant", question.answer)],
            media=[MediumRef("video", key)],
            category=question.type,
            origin=origin,
        )


class SyntheticInstructionDataModule(ConversationDataModule):
    """Short videos of moving coloured shapes with questions about one object among distractors; needs no file.

    Validation and test videos are the same whatever the seed; their questions come in equal shares of all types, and
    the test set serves to report, never to choose.

    Args:
        num_videos: Training videos.
        num_questions: Questions per training epoch, drawn with the training videos in turn.
        num_held_out_videos: Videos of the validation set, and of the test set.
        num_held_out_questions: Questions of the validation set, and of the test set.
        num_frames: Frames of a video.
        mix: Share of each question type in training.
        template: Chat template.
        batch_size: Questions per batch.
        num_workers: Loader processes; 0 loads in the main process, which is fastest here.
        seed: Of the training videos, their questions and their order.
        preamble_words: Words that say nothing about the video before each question; 90 move it past the 77 positions
            that CLIP's text tower was trained on.
        held_out_preamble_words: The same for validation and test; null: as in training.
        loading: How samples become training batches.
    """

    def __init__(
        self,
        num_videos: int = 2500,
        num_questions: int = 32_000,
        num_held_out_videos: int = 400,
        num_held_out_questions: int = 2_100,
        num_frames: int = 8,
        mix: QuestionMix = QuestionMix(),
        template: TemplateName = "plain_v1",
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
        preamble_words: int = 0,
        held_out_preamble_words: int | None = None,
        loading: Loading = Loading(),  # noqa: B008  frozen
    ) -> None:
        super().__init__(batch_size, num_workers, seed, loading)
        self.num_videos = num_videos
        self.num_questions = num_questions
        self.num_held_out_videos = num_held_out_videos
        self.num_held_out_questions = num_held_out_questions
        self.num_frames = num_frames
        self.mix = mix
        self.template: TemplateName = template
        self.preamble_words = preamble_words
        self.held_out_preamble_words = preamble_words if held_out_preamble_words is None else held_out_preamble_words

    def dataset(self, split: Split) -> SyntheticQuestions:
        """Draw one split's videos and render them."""
        processor = Processor(self.inputs, self.template, self.num_frames)
        if split == "train":
            return SyntheticQuestions(
                processor,
                self.seed,
                self.num_videos,
                self.num_questions,
                self.mix,
                prompt=False,
                preamble_words=self.preamble_words,
            )
        return SyntheticQuestions(
            processor,
            _HELD_OUT_SEEDS[split],
            self.num_held_out_videos,
            self.num_held_out_questions,
            QuestionMix(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0),
            prompt=split == "predict",
            preamble_words=self.held_out_preamble_words,
        )
