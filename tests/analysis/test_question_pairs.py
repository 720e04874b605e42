"""Which question-answer pairs are measured, and which are left out and counted."""

from ppl.analysis.question_pairs import Clip, QuestionPair, question_pairs
from ppl.datamodules.records import PLACEHOLDER, MediumRef, Record, Turn

VIDEO, IMAGE = MediumRef("video", "a.mp4", 1.0, 2.5), MediumRef("image", "a.png")


def record(*texts, media=(VIDEO,), system=""):
    roles = ["user", "assistant"] * len(texts)
    turns = [Turn(role, text) for role, text in zip(roles, texts, strict=False)]
    turns[0] = Turn("user", PLACEHOLDER * len(media) + turns[0].text)
    return Record("r", [Turn("system", system), *turns] if system else turns, list(media))


def test_each_turn_of_a_conversation_is_a_pair():
    pairs, left_out = question_pairs([record("\nwho  opens\nit ?", "she", "why ?", "to leave", system="be brief")])
    clip = Clip("a.mp4", 1.0, 2.5)
    assert pairs == [QuestionPair("r", "who opens it ?", "she", clip), QuestionPair("r", "why ?", "to leave", clip)]
    assert pairs[0].text == "who opens it ? she"
    assert left_out == {}


def test_what_is_left_out_is_counted_by_reason():
    records = [
        record("who ?", "she"),
        record("who ?", "she", media=()),
        record("who ?", "she", media=(IMAGE,)),
        record("who ?", "she", media=(VIDEO, IMAGE)),
        record("who ?", "she", media=(VIDEO, VIDEO)),
        record("who ?", "she", "why ?"),
        record("who ?", ""),
    ]
    pairs, left_out = question_pairs(records)
    assert [pair.question for pair in pairs] == ["who ?", "who ?"]
    assert left_out == {
        "records without a video": 1,
        "records with images": 2,
        "records with several videos": 1,
        "questions without an answer": 2,
    }
