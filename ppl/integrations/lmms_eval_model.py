"""The model behind ``lmms-eval --model ppl``: a checkpoint of ``ppl``, asked as lmms-eval's tasks ask.

lmms-eval hands over all requests at once. Those about one video are put together: it is decoded by loader processes
ahead of time, goes through the vision tower once, and is pooled anew for each question.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, Literal

import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from ppl.checkpoints import load
from ppl.datamodules.collate import collate
from ppl.datamodules.frame_sampling import FrameSampler, Linspace, Midpoints, SegmentIndices, SegmentStarts
from ppl.datamodules.processing import Processor, Sample
from ppl.integrations.lmms_batches import RequestBatches, plan_batches
from ppl.integrations.lmms_eval import missing_lmms_eval
from ppl.integrations.lmms_requests import Asked, asked_in_messages, asked_simply, generation
from ppl.modules.feature_cache import Caching, FeatureCache
from ppl.modules.generation import Generation, decode_answers

try:
    from lmms_eval.api.model import lmms  # pyright: ignore[reportMissingImports]  the extra's
except ModuleNotFoundError as error:
    raise missing_lmms_eval(error) from error

SAMPLERS: dict[str, type[FrameSampler]] = {
    "linspace": Linspace,
    "midpoints": Midpoints,
    "segments": SegmentIndices,
    "starts": SegmentStarts,
}
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


class PPLChat(lmms):
    """A checkpoint of ``ppl``, asked by messages: text stands between images where a task has it so.

    Args:
        checkpoint: A file of ``ppl fit`` or a folder of ``ppl export``.
        batch_size: Answers generated at once.
        num_frames: Of each video; None: as the checkpoint was trained with.
        frames: Which of them: ``linspace``, as lmms-eval's own models, ``midpoints``, ``segments`` or ``starts``.
        template: Chat template; None: the checkpoint's.
        precision: ``float32``: as the weights are; else autocast.
        max_new_tokens: Of an answer, for tasks that do not say.
        num_workers: Loader processes; 0 reads media in the main process.
        base: Of a checkpoint without the weights that did not train: see `ppl.checkpoints.load`.
        device: lmms-eval's ``--device``; of several processes, each takes the GPU of its own number.
        max_batch_size: lmms-eval passes it; nothing here searches for a batch size.

    Raises:
        ValueError: An argument is none of these values, or a process does not know its number.
    """

    is_simple = False

    def __init__(
        self,
        checkpoint: str,
        batch_size: int | str = 1,
        num_frames: int | None = None,
        frames: str = "linspace",
        template: Any = None,  # noqa: ANN401  the processor checks it
        precision: Literal["float32", "bfloat16", "float16"] = "float32",
        max_new_tokens: int = 1024,
        num_workers: int = 2,
        base: str | None = None,
        device: str | None = None,
        max_batch_size: int | str | None = None,
    ) -> None:
        super().__init__()
        self.max_batch_size = max_batch_size  # Lightning looks into this frame, and wants every argument to be there
        self._rank, self._world_size = _place()
        self.batch_size = _positive(batch_size)
        self.max_new_tokens = max_new_tokens
        self.num_workers = num_workers
        self.device = _device(device)
        self.dtype = _choice("precision", precision, PRECISIONS)
        self.module = load(checkpoint, base)
        conversation = dict(self.module.conversation)
        conversation |= {k: v for k, v in {"num_frames": num_frames, "template": template}.items() if v is not None}
        sampler = _choice("frames", frames, SAMPLERS)()
        self.processor = Processor(self.module.input_spec, **conversation, sampler=sampler)
        # What trained the tower is over; a frozen one may be cached.
        self.module.requires_grad_(requires_grad=False)

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Answer every request, in their order."""
        self.module.to(self.device)
        batches = plan_batches(requests, self.task_dict, self.batch_size, simple=self.is_simple)
        loading = RequestBatches(requests, batches, self.task_dict, self.processor, self._asked)
        loader = DataLoader(loading, batch_size=None, num_workers=self.num_workers, collate_fn=_as_it_is)
        answers: dict[int, str] = {}
        with tqdm(total=len(requests), disable=self.rank != 0, desc="ppl") as progress:
            for batch, samples in zip(batches, loader, strict=True):
                settings = generation(self._arguments(requests[batch[0]]), self.max_new_tokens)
                answers |= dict(zip(batch, self._answer(samples, settings), strict=True))
                progress.update(len(batch))
        return [answers[index] for index in range(len(requests))]

    @torch.inference_mode()
    def _answer(self, samples: list[Sample], settings: Generation) -> list[str]:
        """Answer samples in parts of the batch size; what they share is encoded with the first part."""
        model = self.module.model
        shared = len(samples) > self.batch_size
        model.cache = FeatureCache(Caching(memory_gib=4.0, storage="float32")) if shared else None
        settings = settings.with_stops(self.processor.template.stop_strings)
        answers = list[str]()
        with self._precision():
            for start in range(0, len(samples), self.batch_size):
                part = collate(samples[start : start + self.batch_size], self.module.input_spec, "left")
                part = self.module.transfer_batch_to_device(part, self.device, 0)
                tokens = model.generate(model.embed(part), part["attention_mask"], settings)
                answers += decode_answers(model.backbone.tokenizer, tokens, settings.stop_strings)
        return answers

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Refuse: ppl generates."""
        msg = (
            f"got {len(requests)} requests for a likelihood, expected ones to generate: ppl answers in words; choose "
            "the generating form of the task (seedbench rather than seedbench_ppl, egoschema_subset rather than "
            "egoschema_subset_mcppl)"
        )
        raise NotImplementedError(msg)

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        """Refuse: tasks of several rounds are not supported."""
        msg = f"got {len(requests)} requests of several rounds, expected ones of one: choose another task"
        raise NotImplementedError(msg)

    def clean(self) -> None:
        """Make room on the GPU, as lmms-eval asks for after the last request; its own way would delete the model."""
        self.module.model.cache = None
        self.module.to("cpu")
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _precision(self) -> Any:  # noqa: ANN401  a context
        return nullcontext() if self.dtype is None else torch.autocast(self.device.type, self.dtype)

    def _asked(self, request: Any, doc: Any) -> Asked:  # noqa: ANN401  lmms-eval's
        return asked_in_messages(request.args[1](doc))

    def _arguments(self, request: Any) -> dict[str, Any]:  # noqa: ANN401  lmms-eval's
        return request.args[2]


class PPLSimple(PPLChat):
    """The same, asked by a prompt and a list of media: ``lmms-eval --force_simple``."""

    is_simple = True

    def _asked(self, request: Any, doc: Any) -> Asked:  # noqa: ANN401  lmms-eval's
        return asked_simply(request.args[0], request.args[2](doc) or [])

    def _arguments(self, request: Any) -> dict[str, Any]:  # noqa: ANN401  lmms-eval's
        return request.args[1]


def _place() -> tuple[int, int]:
    """The number of this process, and how many there are."""
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size > 1 and "RANK" not in os.environ:
        msg = (
            f"got WORLD_SIZE={world_size} without RANK, expected both: every process would answer as the first one; "
            "start with torchrun or accelerate launch"
        )
        raise ValueError(msg)
    return int(os.environ.get("RANK", "0")), world_size


def _device(name: str | None) -> torch.device:
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return device


def _positive(batch_size: int | str) -> int:
    if not str(batch_size).isdigit() or int(batch_size) < 1:
        msg = f"got batch_size={batch_size!r}, expected a number of answers: ppl does not search for one"
        raise ValueError(msg)
    return int(batch_size)


def _choice(name: str, value: str, choices: dict[str, Any]) -> Any:  # noqa: ANN401
    if value not in choices:
        msg = f"got {name}={value!r}, expected one of {', '.join(choices)}"
        raise ValueError(msg)
    return choices[value]


def _as_it_is(samples: list[Sample]) -> list[Sample]:
    return samples
