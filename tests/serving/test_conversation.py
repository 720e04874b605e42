"""What the language model reads of a conversation, against the batches that training makes of the same."""

import pytest
import torch

from ppl.datamodules.records import PLACEHOLDER, MediumRef, Turn
from ppl.serving.conversation import (
    conversation_record,
    embed_conversation,
    guide_of,
    pooled_tokens,
    without_placeholders,
)
from ppl.serving.encoded_media import EncodedMedium
from tests.modules.tiny import image, make_batch, plain_model, video

TEXT = "what colour is the square ?"
QUESTIONS = ["why ?", "where ?", "why ?"]


@torch.no_grad()
def encoded(model, processor, media):
    kept = []
    for decoded, prepared in zip(media, processor.prepare(media), strict=True):
        [grid] = model.encode(prepared.frames, [prepared.info])
        prepared = prepared._replace(frames=prepared.frames[:0])
        kept.append(EncodedMedium(MediumRef(decoded.kind, "somewhere"), decoded, prepared, grid))
    return kept


@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize("media", [[], [video(4)], [image(60, 90)], [video(4), image(50, 40), image(30, 30)]], ids=len)
def test_a_conversation_is_what_a_batch_makes_of_it(model, processor, media, guided):
    """To rounding: media of a batch go through the tower together."""
    model = model if guided else plain_model()
    kept = encoded(model, processor, media)
    record = conversation_record([Turn("user", PLACEHOLDER * len(media) + TEXT)], kept)
    processor.inputs = model.input_spec
    tokens = pooled_tokens(model, kept, TEXT) if media else None
    with torch.no_grad():
        expected = model.embed(make_batch(model, (media, TEXT, ""), prompts=True))
    torch.testing.assert_close(embed_conversation(model, processor, record, kept, tokens), expected)


def test_the_guide_changes_the_tokens(model, processor):
    kept = encoded(model, processor, [video(4)])
    assert not torch.equal(pooled_tokens(model, kept, TEXT), pooled_tokens(model, kept, QUESTIONS[0]))


@pytest.mark.parametrize(
    ("policy", "guide"), [("per-turn", "why ?"), ("first-turn", "why ?"), ("union", "why ? where ?")]
)
def test_the_policy_says_which_questions_guide(policy, guide):
    assert guide_of(QUESTIONS, policy) == guide
    assert guide_of(QUESTIONS[:2], "per-turn") == "where ?"


def test_there_is_no_other_policy():
    with pytest.raises(ValueError, match="got policy='newest', expected one of per-turn, first-turn, union"):
        guide_of(QUESTIONS, "newest")


@pytest.mark.parametrize(
    "turns",
    [[], [Turn("assistant", "red")], [Turn("user", "why ?"), Turn("user", "why ?")], [Turn("user", PLACEHOLDER)]],
)
def test_turns_that_are_no_conversation_are_refused(turns):
    with pytest.raises(ValueError, match="this conversation"):
        conversation_record(turns, [])


def test_what_is_said_has_no_places_of_media():
    assert without_placeholders(f"{PLACEHOLDER}\n{PLACEHOLDER} why  is\nthat ?") == "why is that ?"
