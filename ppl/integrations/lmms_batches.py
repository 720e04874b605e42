"""Which requests of lmms-eval are answered together, and their samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.utils.data import Dataset

from ppl.datamodules.processing import PreparedMedium, Processor, Sample
from ppl.datamodules.records import PLACEHOLDER, Record
from ppl.integrations.lmms_requests import Asked, Visual, guide


def plan_batches(
    requests: Sequence[Any], documents: Mapping[str, Any], batch_size: int, *, simple: bool
) -> list[list[int]]:
    """Put requests about the same videos together, and small groups of one task into one batch.

    Videos are told by their paths. Images in memory are not looked at before they are asked about: each question of
    theirs is on its own.

    Args:
        requests: lmms-eval's instances.
        documents: Data sets by task and split.
        batch_size: Questions that a batch has at most, unless they are about one video.
        simple: Whether the requests are those of a simple model.

    Returns:
        Indices of requests, each once.
    """
    groups: dict[object, list[int]] = {}
    in_memory = set[str]()
    for index, request in enumerate(requests):
        *_, doc_id, task, split = request.args
        paths = None if task in in_memory else _paths(request, documents[task][split][doc_id], simple=simple)
        if paths is None:
            in_memory.add(task)
        groups.setdefault((task, index if paths is None else paths), []).append(index)
    batches, last_task = list[list[int]](), None
    for (task, _), members in groups.items():  # pyright: ignore[reportGeneralTypeIssues]
        if batches and task == last_task and len(batches[-1]) + len(members) <= batch_size:
            batches[-1] += members
        else:
            batches.append(list(members))
        last_task = task
    return batches


class RequestBatches(Dataset[list[Sample]]):
    """The samples of each batch; media that its questions share are read once.

    Args:
        requests: lmms-eval's instances.
        batches: What `plan_batches` returned.
        documents: Data sets by task and split.
        processor: Makes the samples.
        ask: Turns a request and its document into turns and media.
    """

    def __init__(
        self,
        requests: Sequence[Any],
        batches: Sequence[Sequence[int]],
        documents: Mapping[str, Any],
        processor: Processor,
        ask: Callable[[Any, Any], Asked],
    ) -> None:
        self.requests = requests
        self.batches = batches
        self.documents = documents
        self.processor = processor
        self.ask = ask

    def __len__(self) -> int:
        """Count the batches."""
        return len(self.batches)

    def __getitem__(self, index: int) -> list[Sample]:
        """Read a batch's media and make its samples."""
        read: dict[tuple[Visual, ...], list[PreparedMedium]] = {}
        return [self._sample(self.requests[number], read) for number in self.batches[index]]

    def _sample(self, request: Any, read: dict[tuple[Visual, ...], list[PreparedMedium]]) -> Sample:  # noqa: ANN401  lmms-eval's
        *_, doc_id, task, split = request.args
        try:
            doc = self.documents[task][split][doc_id]
            asked = self.ask(request, doc)
            media = self._media(asked, read)
            said = "\n".join(turn.text for turn in asked.turns if turn.role == "user").replace(PLACEHOLDER, "")
            record = Record(
                id=f"{task}/{doc_id}",
                turns=asked.turns,
                media=[],
                origin=f"{task}, document {doc_id}",
                guide=guide(task, doc, said),
            )
            return self.processor.assemble(record, media, for_generation=True)
        except Exception as error:
            error.add_note(f"while loading document {doc_id} of lmms-eval's task {task}")
            raise

    def _media(self, asked: Asked, read: dict[tuple[Visual, ...], list[PreparedMedium]]) -> list[PreparedMedium]:
        """Read the media of a question, unless another one has read the same files."""
        key = tuple(asked.visuals) if all(isinstance(visual.source, str) for visual in asked.visuals) else None
        if key is not None and key in read:
            return read[key]
        media = self.processor.prepare([visual.read(self.processor) for visual in asked.visuals])
        if key is not None:
            read[key] = media
        return media


def _paths(request: Any, doc: Any, *, simple: bool) -> tuple[str, ...] | None:  # noqa: ANN401  lmms-eval's
    """The files that a request shows; None: it shows images in memory."""
    if simple:
        visuals = request.args[2](doc) or []
        files = [str(v) for v in visuals if isinstance(v, (str, dict))]
        return tuple(files) if files and len(files) == len(visuals) else None
    parts = [part for m in request.args[1](doc) if not isinstance(m["content"], str) for part in m["content"]]
    media = [p for p in parts if p["type"] != "text"]
    return tuple(str(p) for p in media) if media and all(isinstance(p["url"], (str, dict)) for p in media) else None
