"""A file of questions: each answered as it would be alone, once, and nothing of it lost."""

import json
import re

import numpy as np
import pytest

from ppl.datamodules.records import PLACEHOLDER, MediumRef
from ppl.datamodules.synthetic.world import random_scene, render
from ppl.datamodules.synthetic.writer import write_video
from ppl.modules.generation import Generation
from ppl.serving.chat_batch import answer_rows
from ppl.serving.chat_output import ChatOutput
from ppl.serving.dialogue import Dialogue
from ppl.serving.question_rows import QuestionRow
from ppl.serving.session import ChatSession
from tests.modules.tiny import inputs_seen
from tests.serving.small_gpu import short_of_memory

FIRST, SECOND = "what colour is the square ?", "which way does the ring move ?"
SHORT = Generation(max_new_tokens=4)


@pytest.fixture
def dialogue(model, processor):
    return Dialogue(ChatSession(model, processor), SHORT, "some.ckpt")


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    path = tmp_path_factory.mktemp("media") / "other.mp4"
    write_video(path, render(random_scene(np.random.default_rng(1))))
    return path


@pytest.fixture
def rows(clip, other):
    films = [MediumRef("video", str(path)) for path in (clip, clip, other)]
    texts = [FIRST, SECOND, FIRST]
    return [
        QuestionRow(name, [], [film], [f"{PLACEHOLDER}\n{text}"])
        for name, film, text in zip("abc", films, texts, strict=True)
    ]


@pytest.fixture
def answer(dialogue, tmp_path):
    """Write answers to a file; returns its rows and how many failed."""

    def run(rows, **options):
        file = tmp_path / "new" / "answers.jsonl"
        num_failed = answer_rows(dialogue, rows, ChatOutput(as_json=False), file, **options)
        return [json.loads(line) for line in file.read_text().splitlines()], num_failed

    return run


def alone(model, processor, path, *questions):
    session = ChatSession(model, processor, path)
    return ["".join(session.ask(question, SHORT)).strip() for question in questions]


def test_rows_are_answered_as_they_are_alone_and_media_encoded_once(model, processor, answer, rows, clip, other):
    with inputs_seen(model.backbone.vision_tower) as seen:
        written, num_failed = answer(rows)
    assert len(seen) == 2
    assert num_failed == 0
    expected = [*alone(model, processor, clip, FIRST), *alone(model, processor, clip, SECOND)]
    expected += alone(model, processor, other, FIRST)
    assert [row["answer"] for row in written] == expected
    assert [row["id"] for row in written] == ["a", "b", "c"]
    assert [row["question"] for row in written] == [FIRST, SECOND, FIRST]
    assert {(row["model"], row["pooler"], row["visual_tokens"]) for row in written} == {
        ("some.ckpt", "WeightedPooler", 12)
    }


def test_too_little_memory_is_told_in_the_row_and_the_next_is_answered(model, processor, answer, rows, clip, capsys):
    short_of_memory(model.backbone.language_model, at=0)
    written, num_failed = answer(rows[:2])
    assert num_failed == 1
    assert written[0]["error"].startswith("OutOfMemoryError: got less memory than this takes (CUDA out of memory. ")
    assert "--budget N" in written[0]["error"]
    assert [written[1]["answer"]] == alone(model, processor, clip, SECOND)
    assert "the first that failed: OutOfMemoryError: got less" in capsys.readouterr().err


def test_questions_that_follow_on_each_other_are_one_conversation(model, processor, answer, clip):
    row = QuestionRow("a", [], [MediumRef("video", str(clip))], [f"{PLACEHOLDER}\n{FIRST}", SECOND], "red")
    [written], _ = answer([row])
    assert [turn["answer"] for turn in written["turns"]] == alone(model, processor, clip, FIRST, SECOND)
    assert (written["questions"], written["reference"]) == ([FIRST, SECOND], "red")


def test_rows_without_media_are_about_those_given(model, processor, answer, clip):
    [written], _ = answer([QuestionRow("a", [], [], [FIRST])], refs=[MediumRef("video", str(clip))])
    assert [written["answer"]] == alone(model, processor, clip, FIRST)


def test_what_goes_wrong_is_kept_in_its_row_and_asked_again(answer, rows, capsys, monkeypatch, dialogue):
    rows[1] = rows[1]._replace(media=[MediumRef("video", "none.mp4")])
    rows[2] = rows[2]._replace(questions=["red " * 300])
    bad = ValueError("questions.jsonl:4: got broken JSON")
    written, num_failed = answer([*rows, bad])
    assert num_failed == 3
    assert [("answer" in row, "error" in row) for row in written] == [(True, False)] + [(False, True)] * 3
    assert "none.mp4" in written[1]["error"]
    assert "302 tokens" in written[2]["error"]
    assert written[3] == {"id": None, "error": str(bad)}
    said = capsys.readouterr()
    assert said.out == ""
    assert "1 answered, 0 there already, 3 failed" in said.err
    assert "none.mp4" in said.err, "the first that failed"
    rows[1] = rows[1]._replace(media=rows[0].media)
    rows[2] = rows[2]._replace(questions=[FIRST])
    asked = []
    ask = dialogue.ask
    monkeypatch.setattr(dialogue, "ask", lambda question: asked.append(question) or ask(question))
    again, num_failed = answer(rows)
    assert num_failed == 0
    assert len(asked) == 2
    assert again[0] == written[0]
    assert [(row["id"], "answer" in row) for row in again] == [("a", True), ("b", True), ("c", True)]
    assert "2 answered, 1 there already, 0 failed" in capsys.readouterr().err


def test_a_fault_of_any_kind_is_its_row_s_alone(answer, rows, monkeypatch, model):
    generate = model.generate
    calls = []

    def fail_once(*args, **options):
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("out of memory")
        return generate(*args, **options)

    monkeypatch.setattr(model, "generate", fail_once)
    written, num_failed = answer(rows)
    assert num_failed == 1
    assert written[0]["error"] == "RuntimeError: out of memory"
    assert all("answer" in row for row in written[1:])


def test_a_run_that_was_killed_goes_on_behind_its_last_whole_line(answer, rows, tmp_path, dialogue):
    whole, _ = answer(rows)
    file = tmp_path / "new/answers.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text(lines[0] + lines[1][:30])
    asked = []
    begin = dialogue.begin
    dialogue.begin = lambda *how: asked.append(how) or begin(*how)
    again, _ = answer(rows)
    assert len(asked) == 2
    assert [(row["id"], row["answer"]) for row in again] == [(row["id"], row["answer"]) for row in whole]


def test_ctrl_c_leaves_whole_lines(answer, rows, tmp_path, monkeypatch, dialogue):
    ask = dialogue.ask
    calls = []

    def interrupted(question):
        calls.append(question)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return ask(question)

    monkeypatch.setattr(dialogue, "ask", interrupted)
    with pytest.raises(KeyboardInterrupt):
        answer(rows)
    [row] = [json.loads(line) for line in (tmp_path / "new/answers.jsonl").read_text().splitlines()]
    assert row["id"] == "a"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "other.ckpt"}, "'model': 'other.ckpt'"),
        ({"budget": 3}, "'budget': 3"),
        ({"question": "is it ?"}, "'question': 'is it ?'"),
    ],
)
def test_answers_of_something_else_are_not_taken_for_these(answer, rows, tmp_path, change, message):
    [row], _ = answer(rows[:1])
    file = tmp_path / "new/answers.jsonl"
    before = json.dumps(row | change) + "\n"
    file.write_text(before)
    with pytest.raises(ValueError, match=rf"answers\.jsonl:1: got .*{re.escape(message)}.*name another file with -o"):
        answer(rows)
    assert file.read_text() == before


def test_a_file_of_something_else_is_left_alone(answer, rows, tmp_path):
    (tmp_path / "new").mkdir()
    file = tmp_path / "new/answers.jsonl"
    for content in ('{"id": "a", "question": "?"}\n', "notes\n", "[]\n"):
        file.write_text(content)
        with pytest.raises(ValueError, match="got a line that is no answer"):
            answer(rows)
        assert file.read_text() == content


def test_rows_that_are_no_longer_asked_stay(answer, rows):
    answer(rows[:2])
    written, _ = answer(rows[1:])
    assert [row["id"] for row in written] == ["a", "b", "c"]


def test_without_a_file_answers_are_printed(dialogue, rows, capsys):
    assert answer_rows(dialogue, rows[:2], ChatOutput(as_json=False)) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["id"] for row in printed] == ["a", "b"]
