"""Requests about one video are answered together, and it is read once."""

from types import SimpleNamespace

import pytest
from PIL import Image

from ppl.datamodules.processing import Processor
from ppl.integrations.lmms_batches import RequestBatches, plan_batches
from ppl.integrations.lmms_requests import asked_in_messages, asked_simply
from tests.modules.tiny import plain_model, video


def simple(task, doc_id):
    return SimpleNamespace(args=("how many ?", {}, lambda doc: doc["media"], doc_id, task, "test"))


def chat(task, doc_id):
    def messages(doc):
        media = [{"type": "video", "url": path} for path in doc["media"]]
        return [{"role": "user", "content": [*media, {"type": "text", "text": "how many ?"}]}]

    return SimpleNamespace(args=("", messages, {}, doc_id, task, "test"))


def documents(*media):
    return {"task": {"test": [{"media": list(each), "question": f"number {n} ?"} for n, each in enumerate(media)]}}


@pytest.mark.parametrize("kind", [simple, chat])
def test_questions_about_one_video_are_together(kind):
    docs = documents(["a.mp4"], ["b.mp4"], ["a.mp4"], ["c.mp4"], ["a.mp4"])
    requests = [kind("task", i) for i in range(5)]
    assert plan_batches(requests, docs, 1, simple=kind is simple) == [[0, 2, 4], [1], [3]]
    assert plan_batches(requests, docs, 4, simple=kind is simple) == [[0, 2, 4, 1], [3]]


def test_tasks_are_not_mixed_for_they_generate_differently():
    docs = documents(["a.mp4"], ["b.mp4"])
    docs["other"] = docs["task"]
    requests = [simple("task", 0), simple("other", 1), simple("task", 1)]
    assert plan_batches(requests, docs, 8, simple=True) == [[0], [1], [2]]


def test_images_in_memory_are_looked_at_once_to_plan():
    looked = []

    def look(doc):
        looked.append(doc)
        return [Image.new("RGB", (2, 2))]

    requests = [SimpleNamespace(args=("", {}, look, i, "task", "test")) for i in range(5)]
    docs = {"task": {"test": range(5)}}
    assert plan_batches(requests, docs, 2, simple=True) == [[0, 1], [2, 3], [4]]
    assert looked == [0]


@pytest.mark.parametrize(("kind", "ask"), [(simple, asked_simply), (chat, asked_in_messages)])
def test_a_video_is_read_once_and_the_question_guides(kind, ask, monkeypatch):
    processor = Processor(plain_model().input_spec, "plain_v1", num_frames=4)
    read = []

    def fake(ref):
        read.append(ref.path)
        return video(4)

    monkeypatch.setattr(processor, "read", fake)
    docs = documents(["a.mp4"], ["a.mp4"])
    requests = [kind("task", i) for i in range(2)]
    turn = (lambda r, d: ask(r.args[0], r.args[2](d))) if kind is simple else (lambda r, d: ask(r.args[1](d)))
    samples = RequestBatches(requests, [[0, 1]], docs, processor, turn)[0]
    assert read == ["a.mp4"]
    assert [sample.prompt for sample in samples] == ["number 0 ?", "number 1 ?"]


def test_what_fails_names_the_document():
    processor = Processor(plain_model().input_spec, "plain_v1", num_frames=4)
    loading = RequestBatches(
        [simple("task", 0)], [[0]], documents(["none.mp4"]), processor, lambda r, d: asked_simply("", r.args[2](d))
    )
    with pytest.raises(FileNotFoundError) as caught:
        loading[0]
    assert caught.value.__notes__ == ["while loading document 0 of lmms-eval's task task"]
