"""What is known of each answer, and what the user's choices do to it."""

import pytest

from ppl.datamodules.records import PLACEHOLDER, MediumRef, Record
from ppl.datamodules.video_io import read_video
from ppl.modules.generation import Generation
from ppl.modules.poolers.average import AveragePooler
from ppl.serving.dialogue import Dialogue
from ppl.serving.session import ChatSession

QUESTION = "what colour is the square ?"


@pytest.fixture
def dialogue(model, processor, clip):
    return Dialogue(ChatSession(model, processor, clip), Generation(max_new_tokens=3), "some.ckpt")


def test_a_row_says_what_an_answer_took(dialogue, clip):
    said = "".join(dialogue.ask(f"{QUESTION}  {PLACEHOLDER}"))
    [row] = dialogue.rows
    took = row.pop("milliseconds")
    turns = dialogue.session.history
    ids = dialogue.session.processor.assemble(
        record_of(turns[:1], clip), [dialogue.session.media[0].prepared], for_generation=True
    ).input_ids
    assert row == {
        "question": QUESTION,
        "answer": said.strip(),
        "visual_tokens": 12,
        "prompt_tokens": len(ids),
        "answer_tokens": 3,
        "pooler": "WeightedPooler",
        "budget": None,
        "media": [{"path": str(clip), "kind": "video", "frames": list(read_video(clip, 4).timestamps)}],
    }
    assert row["answer"] == turns[1].text
    assert 0 < took["first_token"] <= took["answer"]


def record_of(turns, clip):
    return Record("by hand", turns, [MediumRef("video", str(clip))])


def test_an_answer_that_is_left_has_no_row(dialogue):
    heard = dialogue.ask(QUESTION)
    next(heard)
    heard.close()
    assert (dialogue.rows, dialogue.session.history) == ([], [])


def test_pooler_and_budget_go_together(dialogue):
    session = dialogue.session
    dialogue.limit(3)
    assert session.num_visual_tokens <= 3
    dialogue.pool(AveragePooler((1, 2, 2)), "average")
    assert session.num_visual_tokens <= 3, "the budget stays"
    list(dialogue.ask(QUESTION))
    assert (dialogue.rows[0]["pooler"], dialogue.rows[0]["budget"]) == ("average", 3)
    assert dialogue.rows[0]["visual_tokens"] == session.num_visual_tokens
    dialogue.limit(None)
    assert session.num_visual_tokens == 4 * 3 * 3


def test_what_cannot_be_chosen_changes_nothing(dialogue):
    dialogue.limit(3)
    before = dialogue.session.model.pooler
    with pytest.raises(ValueError, match="got a budget of 0 tokens"):
        dialogue.limit(0)
    dialogue.limit(None)
    with pytest.raises(ValueError, match="does not fit a grid"):
        dialogue.pool(AveragePooler((9, 9, 9)), "large")
    assert (dialogue.budget, dialogue.pooler_name) == (None, "WeightedPooler")
    assert dialogue.session.model.pooler is not before
    assert dialogue.session.num_visual_tokens == 12


def test_rows_go_with_what_is_forgotten(dialogue):
    for question in (QUESTION, "which way does the ring move ?"):
        list(dialogue.ask(question))
    assert dialogue.undo() == "which way does the ring move ?"
    assert [row["question"] for row in dialogue.rows] == [QUESTION]
    dialogue.begin([], [])
    assert (dialogue.rows, dialogue.session.media, dialogue.session.history) == ([], [], [])
