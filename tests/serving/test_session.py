"""A conversation: one pass of the vision tower, an answer that streams, a history that the next question sees."""

import pytest
import torch
from PIL import Image

from ppl.functional.relevance import relevance_distribution
from ppl.modules.backbones.base import Backbone
from ppl.serving.session import ChatSession, is_image
from tests.modules.tiny import inputs_seen, plain_model

FIRST, SECOND = "what colour is the square ?", "which way does the ring move ?"
LENGTH = 12


def answer(session, question):
    return "".join(session.ask(question, LENGTH))


@pytest.fixture
def prompts(model, monkeypatch):
    """What reaches the language model, as text with visual placeholders left out."""
    seen = []
    embed = Backbone.embed

    def spy(self, ids):
        words = [self.tokenizer.decode([i]) for row in ids.tolist() for i in row if i != self.image_token_id]
        seen.append(" ".join(words))
        return embed(self, ids)

    monkeypatch.setattr(Backbone, "embed", spy)
    return seen


def test_the_tower_runs_once_for_any_number_of_questions(model, processor, clip):
    with inputs_seen(model.backbone.vision_tower) as seen:
        session = ChatSession(model, processor, clip)
        answer(session, FIRST)
        answer(session, SECOND)
        session.relevance(SECOND)
    assert [len(frames) for frames in seen] == [4]


def test_the_second_prompt_holds_the_first_question_and_its_answer(model, processor, clip, prompts):
    session = ChatSession(model, processor, clip)
    said = answer(session, FIRST)
    assert said.strip(), "without words the history could lose them unseen"
    answer(session, SECOND)
    first, second = prompts[0], prompts[1]
    assert FIRST in first
    assert SECOND not in first
    assert second.index(FIRST) < second.index(" ".join(said.split())) < second.index(SECOND)
    assert [turn.role for turn in session.history] == ["user", "assistant"] * 2


def test_each_question_pools_by_its_own_words(model, processor, clip):
    """The relevance comes from the question just asked, not from the first or from all of them."""
    session = ChatSession(model, processor, clip)
    answer(session, FIRST)
    with inputs_seen(model.aligner.text_tower) as seen:
        answer(session, SECOND)
    assert [ids.tolist() for ids in seen] == [model.aligner.tokenize([SECOND]).tolist()]


def test_the_pieces_join_to_what_is_generated_at_once(model, processor, clip):
    session = ChatSession(model, processor, clip)
    pieces = list(session.ask(FIRST, LENGTH))
    again = ChatSession(model, processor, clip)
    turns_seen = session.history[:1]
    embeds = again._embed(turns_seen, FIRST)
    mask = torch.ones(embeds.shape[:2], dtype=torch.int64)
    tokens = model.generate(embeds, mask, max_new_tokens=LENGTH)
    expected = model.backbone.tokenizer.decode(tokens[0], skip_special_tokens=True)
    assert len(pieces) > 1, "nothing streamed"
    assert "".join(pieces).split() == expected.split()
    assert session.history[-1].text == "".join(pieces).strip()


def test_an_error_while_generating_reaches_the_caller(model, processor, clip, monkeypatch):
    session = ChatSession(model, processor, clip)

    def fail(*_, **__):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(model, "generate", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        answer(session, FIRST)
    assert session.history == [], "a question without an answer must not be part of the next prompt"


def test_relevance_is_eq_1_over_all_patches(model, processor, clip):
    session = ChatSession(model, processor, clip)
    relevance = session.relevance(FIRST)
    assert relevance.shape == (4, 6, 6)
    assert relevance.sum().item() == pytest.approx(1, rel=1e-5)
    with torch.no_grad():
        grid = model.backbone.encode_frames(processor.prepare([session.medium])[0].frames)
        prompt = model.aligner.embed_prompts(model.aligner.tokenize([FIRST]))[0]
        expected = relevance_distribution(model.aligner.relevance(grid, prompt))
    torch.testing.assert_close(relevance, expected)
    assert (relevance - session.relevance(SECOND)).abs().max() > 1e-6


def test_a_model_without_an_aligner_has_no_relevance(clip):
    from ppl.datamodules.processing import Processor

    model = plain_model()
    session = ChatSession(model, Processor(model.input_spec, num_frames=2), clip)
    answer(session, FIRST)
    with pytest.raises(ValueError, match="without an aligner, which scores no patches; choose a checkpoint with an"):
        session.relevance(FIRST)


def test_start_and_end_choose_the_clip(model, processor, clip):
    """Eight frames at 4 per second: the second half shows frames 4 to 7."""
    whole, half = ChatSession(model, processor, clip), ChatSession(model, processor, clip, start=1.0, end=2.0)
    assert torch.equal(whole.frames[-1], half.frames[-1])
    assert not torch.equal(whole.frames[0], half.frames[0])


def test_an_image_is_told_by_its_content(clip, tmp_path):
    picture = tmp_path / "picture.mp4"
    Image.new("RGB", (9, 5)).save(picture, format="PNG")
    moving = tmp_path / "moving.png"
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(moving, format="GIF", save_all=True, append_images=frames[1:])
    assert is_image(picture)
    assert not is_image(moving)
    assert not is_image(clip)
    assert not is_image(tmp_path / "none.png")
