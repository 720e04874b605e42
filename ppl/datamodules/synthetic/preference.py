"""Preferences in the synthetic world: short, true answers over long or false ones; and long answers to begin with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch.utils.data import Dataset

from ppl.datamodules.base import Split
from ppl.datamodules.preference import PairLoading, PairSample
from ppl.datamodules.processing import PreparedMedium, Sample
from ppl.datamodules.records import PLACEHOLDER, MediumRef, Record, Turn
from ppl.datamodules.synthetic.instruction import SyntheticInstructionDataModule, SyntheticQuestions
from ppl.datamodules.synthetic.questions import Question
from ppl.datamodules.synthetic.world import BACKGROUNDS, COLOURS, DIRECTIONS, Scene

_CHATTY, _PAIR = 1, 2
"""What chance is drawn for."""


def long_answer(scene: Scene, question: Question, rng: np.random.Generator) -> str:
    """Draw an answer that goes on about an object nobody asked for, which half the time is not in the video."""
    thing = scene.objects[rng.integers(len(scene.objects))]
    others = [colour for colour in COLOURS if colour != thing.colour]
    colour = thing.colour if rng.random() < 0.5 else others[rng.integers(len(others))]
    return f"{question.answer} , and there is a {colour} {thing.shape} in the video"


def false_answer(scene: Scene, question: Question, rng: np.random.Generator) -> str:
    """Draw a wrong answer of the right kind; about objects, one that would be right of another object in the video."""
    asked = [scene.objects[i].colour for i in question.asked]
    kinds = {
        "colour": [thing.colour for thing in scene.objects],
        "shape": [thing.shape for thing in scene.objects],
        "motion": list(DIRECTIONS),
        "when": ["early", "late"],
        "order": asked,
        "exist": ["yes", "no"],
        "background": list(BACKGROUNDS),
    }
    others = [answer for answer in kinds[question.type] if answer != question.answer]
    return others[rng.integers(len(others))]


@dataclass(frozen=True)
class _Answered:
    """A question's sample, and what another answer to it needs."""

    questions: SyntheticQuestions
    index: int

    def record(self, answer: str, rejected: str | None = None) -> Record:
        _, question, _ = self.questions.example(self.index)
        return Record(
            id=f"{self.questions.seed}-{self.index}",
            turns=[Turn("user", f"{PLACEHOLDER}\n{question.text}"), Turn("assistant", answer)],
            media=[MediumRef("video", "synthetic")],
            category=question.type,
            origin=f"synthetic question {self.index} of seed {self.questions.seed}",
            rejected=rejected,
        )

    def media(self) -> list[PreparedMedium]:
        sample = self.questions[self.index]
        return [PreparedMedium(sample.frames, sample.media[0])]


class LongAnswers(Dataset[Sample]):
    """Questions with long answers, of which half say something false.

    Args:
        questions: To be answered so.
    """

    def __init__(self, questions: SyntheticQuestions) -> None:
        self.questions = questions

    def __len__(self) -> int:
        return len(self.questions)

    def __getitem__(self, index: int) -> Sample:
        scene, question, _ = self.questions.example(index)
        answer = long_answer(scene, question, np.random.default_rng((self.questions.seed, index, _CHATTY)))
        answered = _Answered(self.questions, index)
        return self.questions.processor.assemble(answered.record(answer), answered.media())


class SyntheticPairs(Dataset[Sample]):
    """Questions with the short, true answer and a worse one: half of those are long, half short and false.

    Args:
        questions: With their short, true answers.
    """

    def __init__(self, questions: SyntheticQuestions) -> None:
        self.questions = questions

    def __len__(self) -> int:
        return len(self.questions)

    def __getitem__(self, index: int) -> PairSample:
        scene, question, _ = self.questions.example(index)
        rng = np.random.default_rng((self.questions.seed, index, _PAIR))
        worse = long_answer if rng.random() < 0.5 else false_answer
        answered = _Answered(self.questions, index)
        record = answered.record(question.answer, worse(scene, question, rng))
        return PairSample.of(self.questions.processor, record, answered.media())


class SyntheticLongAnswerDataModule(SyntheticInstructionDataModule):
    """The synthetic world's questions with long answers, to train a model that preference tuning can better.

    Arguments are those of `SyntheticInstructionDataModule`; what it predicts for has the short answers.
    """

    def dataset(self, split: Split) -> Dataset[Sample]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Draw one split's videos and answers."""
        questions = super().dataset(split)
        return questions if split == "predict" else LongAnswers(questions)


class SyntheticPreferenceDataModule(PairLoading, SyntheticInstructionDataModule):
    """The synthetic world's questions with pairs of answers: short and true over long or false.

    Arguments are those of `SyntheticInstructionDataModule`; what it predicts for has the short answers.
    """

    def dataset(self, split: Split) -> Dataset[Sample]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Draw one split's videos and pairs."""
        questions = SyntheticInstructionDataModule.dataset(self, split)
        return questions if split == "predict" else SyntheticPairs(questions)
