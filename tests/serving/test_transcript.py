"""A conversation that is saved can be read again, by programs and by people."""

import json

import pytest

from ppl.modules.generation import Generation
from ppl.serving.dialogue import Dialogue
from ppl.serving.session import ChatSession
from ppl.serving.transcript import write_transcript

QUESTIONS = ["what colour is the square ?", "which way does the ring move ?"]


@pytest.fixture
def dialogue(model, processor, clip):
    generation = Generation(max_new_tokens=3, temperature=0.5, seed=1)
    dialogue = Dialogue(ChatSession(model, processor, clip, policy="union"), generation, "runs/some.ckpt")
    dialogue.limit(4)
    for question in QUESTIONS:
        list(dialogue.ask(question))
    return dialogue


def test_json_has_everything(dialogue, clip, tmp_path):
    write_transcript(dialogue, tmp_path / "new" / "talk.json")
    read = json.loads((tmp_path / "new" / "talk.json").read_text())
    assert read["model"] == "runs/some.ckpt"
    assert read["turns"] == dialogue.rows
    assert [turn["question"] for turn in read["turns"]] == QUESTIONS
    assert [(medium["path"], len(medium["frames"])) for medium in read["media"]] == [(str(clip), 4)]
    chosen = {"pooler": "WeightedPooler", "budget": 4, "policy": "union", "num_frames": 4, "max_new_tokens": 3}
    assert chosen.items() <= read["settings"].items()
    assert (read["settings"]["temperature"], read["settings"]["seed"]) == (0.5, 1)


def test_markdown_has_it_for_people(dialogue, clip, tmp_path):
    write_transcript(dialogue, tmp_path / "talk.md")
    text = (tmp_path / "talk.md").read_text()
    answers = [row["answer"] for row in dialogue.rows]
    place = 0
    for question, said in zip(QUESTIONS, answers, strict=True):
        place = text.index(f"\n{said}\n", text.index(f"## {question}\n", place))
    for part in (
        "model: runs/some.ckpt",
        "policy union",
        f"video: {clip}, frames at",
        "4 visual tokens by WeightedPooler",
    ):
        assert part in text
    assert "stop_strings" not in text, "nothing is said of what was not set"


def test_another_ending_is_refused(dialogue, clip):
    before = clip.read_bytes()
    with pytest.raises(ValueError, match=r"clip\.mp4 to save to, expected a name that ends in \.json or \.md"):
        write_transcript(dialogue, clip)
    assert clip.read_bytes() == before
