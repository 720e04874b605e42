"""Let a model answer validation questions in its own words, and compare them with the references.

Axes: b samples | l k positions | d language channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from ppl.batches import IGNORE_INDEX, Batch
from ppl.evaluation.text_metrics import exact_match, token_f1
from ppl.modules.category_accuracy import CategoryAccuracy
from ppl.modules.generation import Generation, decode_answers
from ppl.modules.taking_part import is_sharded
from ppl.modules.video_llm import VideoLLM


@dataclass(frozen=True)
class Validation:
    """How answers of the validation and test splits are judged, beside the loss and whether greedy decoding is right.

    Args:
        generate: Answer each question, as ``predict`` would, and log the exact match and token F1 (SQuAD 1.1) of the
            last answer by category: for open-ended questions, whose references are seldom met word by word.
    """

    generate: bool = False


class AnswerScores:
    """Exact match and token F1 of generated answers, by category."""

    def __init__(self) -> None:
        self._means = {"exact_match": CategoryAccuracy(), "token_f1": CategoryAccuracy()}

    @torch.no_grad()
    def update(self, model: VideoLLM, batch: Batch, counted: Bool[Tensor, " b"], generation: Generation) -> None:
        """Answer the questions of a right-padded batch.

        Args:
            model: Held whole by this process.
            batch: With labels of its answers; the last of each sample is asked for.
            counted: Samples that count; only these are answered.
            generation: How to answer.

        Raises:
            ValueError: Processes share the weights, and would wait for each other's answers, which end anywhere.
        """
        if is_sharded(model):
            msg = (
                "got validation.generate with a strategy that shares weights out among processes, expected each to "
                "have them whole: set model.validation.generate=false, or use DDP"
            )
            raise ValueError(msg)
        said, chosen = [], counted.nonzero().flatten().tolist()
        if chosen:
            embeds, mask = last_questions(model.embed(batch)[counted], batch["labels"][counted])
            tokens = model.generate(embeds, mask, generation)
            said = decode_answers(model.backbone.tokenizer, tokens, generation.stop_strings)
        pairs = list(zip(said, [batch["answers"][i] for i in chosen], strict=True))
        categories = [batch["categories"][i] for i in chosen]
        for name, marks in {
            "exact_match": [exact_match(text, answer) for text, answer in pairs],
            "token_f1": [token_f1(text, answer) for text, answer in pairs],
        }.items():
            self._means[name].update(categories, torch.tensor(marks, dtype=torch.float32, device=counted.device))

    def compute(self) -> dict[str, float]:
        """Means by metric and category, over all processes; then start over."""
        found = {name: mean.compute() for name, mean in self._means.items()}
        return {f"{name}/{category}": mean for name, means in found.items() for category, mean in means.items()}


def last_questions(
    embeds: Float[Tensor, "b l d"], labels: Int64[Tensor, "b l"]
) -> tuple[Float[Tensor, "b k d"], Int64[Tensor, "b k"]]:
    """What comes before the last answer of each row, padded on the left, and its attention mask."""
    starts = [_last_answer(row) for row in (labels != IGNORE_INDEX).tolist()]
    width = max(starts)
    questions = embeds.new_zeros(len(starts), width, embeds.shape[2])
    mask = torch.zeros(len(starts), width, dtype=torch.int64, device=embeds.device)
    for row, start in enumerate(starts):
        questions[row, width - start :] = embeds[row, :start]
        mask[row, width - start :] = 1
    return questions, mask


def _last_answer(is_target: Sequence[bool]) -> int:
    """First position of the last stretch that is learnt."""
    place = len(is_target) - 1 - list(reversed(is_target)).index(True)
    while place > 0 and is_target[place - 1]:
        place -= 1
    return place
