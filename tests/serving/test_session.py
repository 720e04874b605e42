"""A conversation: one pass of the vision tower, an answer that streams, a history that the next question sees."""

import weakref
from dataclasses import replace

import pytest
import torch
from PIL import Image

from ppl.datamodules.collate import collate
from ppl.datamodules.processing import Processor
from ppl.datamodules.records import PLACEHOLDER, MediumRef, Record, Turn
from ppl.functional.relevance import relevance_distribution
from ppl.modules.backbones.base import Backbone
from ppl.modules.generation import Generation, decode_answers
from ppl.modules.poolers.average import AveragePooler
from ppl.modules.poolers.weighted import WeightedPooler
from ppl.modules.video_llm import VideoLLM
from ppl.serving.encoded_media import is_image, medium_at
from ppl.serving.prefix_cache import PrefixCache
from ppl.serving.session import ChatSession
from tests.modules.test_generation import backbone_model
from tests.modules.tiny import guided_model, inputs_seen, plain_model
from tests.parity.native import template_of

FIRST, SECOND = "what colour is the square ?", "which way does the ring move ?"
LENGTH = 12
SHORT = Generation(max_new_tokens=LENGTH)


def answer(session, question):
    return "".join(session.ask(question, SHORT))


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
    first, _, second, _ = prompts  # answers are embedded too, to be known again
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


@pytest.mark.parametrize("generation", [SHORT, replace(SHORT, num_beams=3), replace(SHORT, temperature=1.0, seed=1)])
def test_the_pieces_join_to_what_is_generated_at_once(model, processor, clip, generation):
    session = ChatSession(model, processor, clip)
    pieces = list(session.ask(FIRST, generation))
    again = ChatSession(model, processor, clip)
    embeds = again._embed(session.history[:1])
    tokens = model.generate(embeds, torch.ones(embeds.shape[:2], dtype=torch.int64), generation)
    [expected] = decode_answers(model.backbone.tokenizer, tokens, ())
    assert (len(pieces) > 1) == (generation.num_beams == 1)
    assert "".join(pieces).strip() == expected
    assert session.history[-1].text == expected


def test_an_error_while_generating_reaches_the_caller(model, processor, clip, monkeypatch):
    session = ChatSession(model, processor, clip)

    def fail(*_, **__):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(model, "generate", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        answer(session, FIRST)
    assert session.history == [], "a question without an answer must not be part of the next prompt"


def test_what_is_freed_can_be_computed_again_and_is_not_lost(model, processor, clip, tmp_path, prefilled):
    session = ChatSession(model, processor, clip, policy="first-turn")
    answer(session, FIRST)
    other = tmp_path / "other.mp4"
    other.write_bytes(clip.read_bytes() + b" ")
    kept = session._encoder.kept
    encoded = session._encoder.read([medium_at(other)])[0]
    assert (len(kept), kept.num_bytes) == (2, session.media[0].num_bytes + encoded.num_bytes)
    grid = weakref.ref(encoded.grid)
    del encoded
    session.free()
    assert grid() is None
    assert (len(kept), kept.num_bytes) == (1, session.media[0].num_bytes)
    prefilled.clear()
    again = answer(session, SECOND)
    assert prefilled[0] == session.num_prompt_tokens, "keys and values were kept"
    whole = ChatSession(model, processor, clip, policy="first-turn")
    answer(whole, FIRST)
    assert (again, session.history) == (answer(whole, SECOND), whole.history)


def test_relevance_is_eq_1_over_all_patches(model, processor, clip):
    session = ChatSession(model, processor, clip)
    relevance = session.relevance(FIRST)
    assert relevance.shape == (4, 6, 6)
    assert relevance.sum().item() == pytest.approx(1, rel=1e-5)
    with torch.no_grad():
        grid = model.backbone.encode_frames(processor.prepare([session.media[0].decoded])[0].frames)
        prompt = model.aligner.embed_prompts(model.aligner.tokenize([FIRST]))[0]
        expected = relevance_distribution(model.aligner.relevance(grid, prompt))
    torch.testing.assert_close(relevance, expected)
    assert (relevance - session.relevance(SECOND)).abs().max() > 1e-6


def test_a_model_without_an_aligner_has_no_relevance(clip):
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


def test_an_image_larger_than_pillow_opens_is_no_video(model, processor, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.new("RGB", (40, 40)).save(tmp_path / "large.png")
    with pytest.raises(ValueError, match=r"large\.png: .*Image size \(1600 pixels\) exceeds limit of 200 pixels"):
        ChatSession(model, processor, tmp_path / "large.png")


@pytest.fixture
def prefilled(model):
    """How many positions the language model goes through at a time."""
    return lengths_of(model)


def lengths_of(model):
    lengths = []

    def count(_, args, inputs):
        lengths.append(inputs["inputs_embeds"].shape[1])

    model.backbone.language_model.register_forward_pre_hook(count, with_kwargs=True)
    return lengths


@pytest.fixture
def generated(model, monkeypatch):
    """The tokens of each answer."""
    answers = []
    generate = model.generate

    def spy(*args, **options):
        tokens = generate(*args, **options)
        answers.append(tokens[0].tolist())
        return tokens

    monkeypatch.setattr(model, "generate", spy)
    return answers


def ids_of(session, turns):
    record = Record("chat", turns, [])
    return session.processor.assemble(record, [session.media[0].prepared], for_generation=True).input_ids.tolist()


def equal_at_first(one, other):
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


THIRD = "is there a red ring ?"
GUIDES = {
    "per-turn": [FIRST, SECOND, None, THIRD],
    "first-turn": [FIRST, None, None, None],
    "union": [FIRST, f"{FIRST} {SECOND}", None, f"{FIRST} {SECOND} {THIRD}"],
}
"""What the text tower reads for each of four questions; None: nothing, because it would read the same again."""
ASKED = [FIRST, SECOND, SECOND, THIRD]


@pytest.mark.parametrize("policy", GUIDES)
def test_the_policy_says_which_questions_guide_pooling(model, processor, clip, policy):
    session = ChatSession(model, processor, clip, policy=policy)
    for question, guide in zip(ASKED, GUIDES[policy], strict=True):
        with inputs_seen(model.aligner.text_tower) as seen:
            answer(session, question)
        assert [ids.tolist() for ids in seen] == ([] if guide is None else [model.aligner.tokenize([guide]).tolist()])


@pytest.mark.parametrize("policy", GUIDES)
def test_only_what_is_new_is_run_and_answers_stay_the_same(model, processor, clip, policy, prefilled, generated):
    session, forgetful = (ChatSession(model, processor, clip, policy=policy) for _ in range(2))
    past = []
    for question, guide in zip(ASKED, GUIDES[policy], strict=True):
        prefilled.clear()
        said = answer(session, question)
        first, *steps = prefilled
        assert set(steps) <= {1}
        ids = ids_of(session, session.history[:-1])
        visual = ids.index(model.backbone.image_token_id)
        common = min(equal_at_first(past, ids), len(ids) if guide is None else visual, len(ids) - 1)
        assert first == len(ids) - common
        past = ids + generated[-1][: len(steps)]  # the last token was not run
        assert len(generated[-1]) == len(steps) + 1
        forgetful._prefix = PrefixCache(model.backbone.hf.config)
        prefilled.clear()
        assert answer(forgetful, question) == said
        assert prefilled[0] == len(ids)


def test_a_pooler_without_relevance_never_runs_the_video_again(clip):
    model = plain_model()
    session = ChatSession(model, Processor(model.input_spec, num_frames=2), clip)
    answer(session, FIRST)
    lengths = lengths_of(model)
    answer(session, SECOND)
    assert lengths[0] < 40 < session.num_visual_tokens


@pytest.mark.parametrize("name", ["tiny_llava_next_video", "tiny_llava_onevision", "tiny_internvl", "tiny_video_llava"])
def test_every_backbone_goes_on_from_its_past(name, clip):
    model = backbone_model(name)
    processor = Processor(model.input_spec, template_of(model), num_frames=2)
    session, forgetful = (ChatSession(model, processor, clip) for _ in range(2))
    lengths = lengths_of(model)
    for question in ASKED:
        lengths.clear()
        said = answer(session, question)
        went_on = lengths[0]
        forgetful._prefix = PrefixCache(model.backbone.hf.config)
        lengths.clear()
        assert answer(forgetful, question) == said
        assert (went_on < lengths[0]) == (question != FIRST)


@pytest.mark.parametrize("change", ["pooler", "pool_site"])
def test_another_way_of_pooling_is_never_answered_with_the_last_one_s_tokens(model, processor, clip, change):
    session = ChatSession(model, processor, clip, policy="first-turn")
    turns = [Turn("user", f"{PLACEHOLDER}\n{FIRST}")]
    before = session._embed(turns)
    if change == "pooler":
        model.pooler = WeightedPooler((2, 3, 2), None, (1, 3, 2), normalization="window")
    else:
        model.pool_site = "post_projector"
    after = session._embed(turns)
    assert after.shape == before.shape
    assert torch.equal(after, ChatSession(model, processor, clip)._embed(turns))
    assert not torch.equal(after, before), "the tokens are the same: the comparison proves nothing"


def test_two_answers_at_once_lose_no_turn_unseen(model, processor, clip):
    session = ChatSession(model, processor, clip)
    first, second = (session.ask(question, SHORT) for question in (FIRST, SECOND))
    next(first)
    next(second)
    said = list(first)
    with pytest.raises(ValueError, match=r"got 2 turn\(s\) .* began with 0.*end or close one answer before"):
        list(second)
    assert said
    assert [turn.text for turn in session.history[:1]] == [f"{PLACEHOLDER}\n{FIRST}"]
    answer(session, SECOND)
    assert len(session.history) == 4


def test_a_policy_that_does_not_exist(model, processor, clip):
    session = ChatSession(model, processor, clip)
    session.policy = "last-turn"
    with pytest.raises(ValueError, match="got policy='last-turn', expected one of per-turn, first-turn, union"):
        answer(session, FIRST)


def test_a_union_too_long_for_the_aligner_names_its_policy(model, processor, clip):
    session = ChatSession(model, processor, clip, policy="union")
    answer(session, "red " * 150)
    with pytest.raises(ValueError, match="tokens") as error:
        answer(session, "blue " * 150)
    assert "choose another policy" in error.value.__notes__[0]


def test_who_stops_listening_stops_the_answer(model, processor, clip, prefilled):
    session = ChatSession(model, processor, clip)
    heard = session.ask(FIRST, Generation(max_new_tokens=400))
    next(heard)
    heard.close()
    assert len(prefilled) < 400
    assert session.history == []
    said = answer(session, FIRST)
    assert said == answer(ChatSession(model, processor, clip), FIRST)


def test_an_answer_ends_before_a_stop_string(model, processor, clip):
    whole = answer(ChatSession(model, processor, clip), FIRST)
    stop = " ".join(whole.split()[3:5])
    session = ChatSession(model, processor, clip)
    said = "".join(session.ask(FIRST, replace(SHORT, stop_strings=(stop,))))
    assert said == whole[: whole.index(stop)]
    assert session.history[-1].text == said.strip()


def test_the_template_s_stop_strings_count(model, processor, clip):
    word = answer(ChatSession(model, processor, clip), FIRST).split()[2]
    processor.template = replace(processor.template, stop_strings=(word,))
    session = ChatSession(model, processor, clip)
    assert word not in answer(session, FIRST)
    assert session.history[-1].text


def read_as_in_training(model, processor, turns, media):
    """The embedded prompt of a record written by hand: all media read at once, through the path of training."""
    refs = [MediumRef(*medium) for medium in media]
    sample = processor.encode(Record("by hand", turns, refs), for_generation=True)
    with torch.no_grad():
        return model.embed(collate([sample], model.input_spec, "left"))


@pytest.fixture
def pictures(tmp_path):
    """Of unlike shapes, so that tiling is seen."""
    paths = [tmp_path / "wide.png", tmp_path / "high.png"]
    for path, size in zip(paths, [(96, 48), (40, 90)], strict=True):
        Image.fromarray(torch.randint(256, (*reversed(size), 3), dtype=torch.uint8).numpy()).save(path)
    return [("image", str(path)) for path in paths]


@pytest.fixture
def heard(monkeypatch):
    """What the language model reads before each answer."""
    seen = []
    generate = VideoLLM.generate

    def spy(self, embeds, *args, **options):
        seen.append(embeds.clone())
        return generate(self, embeds, *args, **options)

    monkeypatch.setattr(VideoLLM, "generate", spy)
    return seen


PLANS = [("guided", plan) for plan in ("i | i", "v | i", "i | | v i", "i v | i |")]
PLANS += [("guided", " | i"), ("tiny_internvl", "i | v i"), ("tiny_llava_onevision", "i | i")]


@pytest.mark.parametrize(("name", "plan"), PLANS)
def test_media_added_in_the_middle_stand_as_in_a_record_that_had_them(name, plan, clip, pictures, heard):
    """An image is another thing beside a second one: what was encoded of it, and its tokens, change with it."""
    model = guided_model() if name == "guided" else backbone_model(name)
    processor = Processor(model.input_spec, template_of(model), num_frames=2)
    session = ChatSession(model, processor, policy="union")
    images, media, turns = iter(pictures), [], []
    for number, step in enumerate(plan.split("|")):
        new = [("video", str(clip)) if kind == "v" else next(images) for kind in step.split()]
        for kind, path in new:
            session.add(MediumRef(kind, path))
        media += new
        question = f"is {number} there ?"
        said = "".join(session.ask(question, Generation(max_new_tokens=3)))
        turns.append(Turn("user", f"{PLACEHOLDER}\n" * len(new) + question))
        torch.testing.assert_close(heard[-1], read_as_in_training(model, processor, turns, media))
        assert session.num_prompt_tokens == heard[-1].shape[1]
        turns.append(Turn("assistant", said.strip()))
    assert session.history == turns


def test_a_placeholder_says_where_a_new_medium_stands(model, processor, clip, pictures, heard):
    session = ChatSession(model, processor)
    for medium in pictures:
        session.add(MediumRef(*medium))
    question = f"is {PLACEHOLDER} red or {PLACEHOLDER} ?"
    answer(session, question)
    expected = read_as_in_training(model, processor, [Turn("user", question)], pictures)
    torch.testing.assert_close(heard[-1], expected)
    with pytest.raises(ValueError, match="got 3 placeholders in the user turns; expected 2"):
        answer(session, f"{PLACEHOLDER} ?")


def test_a_conversation_goes_on_from_turns_that_were_had_elsewhere(model, processor, clip, pictures, heard):
    session = ChatSession(model, processor, clip)
    answer(session, FIRST)
    given = [Turn("system", "a b"), Turn("user", f"{PLACEHOLDER}\n{FIRST}"), Turn("assistant", "red")]
    media = [("video", str(clip)), pictures[0]]
    with inputs_seen(model.backbone.vision_tower) as seen:
        session.begin(given, [MediumRef(*medium) for medium in media])
    assert [len(frames) for frames in seen] == [3], "only the image's views: the video is known"
    answer(session, SECOND)
    turns = [*given, Turn("user", f"{PLACEHOLDER}\n{SECOND}")]
    session.policy = "union"
    torch.testing.assert_close(session._embed(turns), read_as_in_training(model, processor, turns, media))
    assert session.history[:-1] == turns


def test_a_conversation_that_cannot_begin_leaves_the_one_before(model, processor, clip):
    session = ChatSession(model, processor, clip)
    answer(session, FIRST)
    before = session.history
    with pytest.raises(FileNotFoundError):
        session.begin([], [MediumRef("image", "none.png")])
    assert (session.history, len(session.media)) == (before, 1)


def test_a_question_is_forgotten_with_its_answer(model, processor, clip, pictures, heard):
    session = ChatSession(model, processor, clip)
    answer(session, FIRST)
    session.add(MediumRef(*pictures[0]))
    answer(session, SECOND)
    with_both = heard[-1]
    assert session.undo() == SECOND
    answer(session, SECOND)
    assert torch.equal(heard[-1], with_both), "the added image is the repeated question's"
    assert (session.undo(), session.undo()) == (SECOND, FIRST)
    with pytest.raises(ValueError, match="got no question to take back"):
        session.undo()
    answer(session, FIRST)
    assert session.history[0].text == f"{PLACEHOLDER}\n{PLACEHOLDER}\n{FIRST}"


def test_other_media_are_not_answered_with_the_tokens_of_the_last(model, processor, clip, pictures):
    session = ChatSession(model, processor, policy="first-turn")
    answers = []
    for medium in pictures:
        session.begin([], [MediumRef(*medium)])
        turns = [Turn("user", f"{PLACEHOLDER}\n{FIRST}")]
        answers.append(session._embed(turns))
        assert torch.equal(answers[-1], ChatSession(model, processor, medium[1])._embed(turns))


def test_a_pooler_that_cannot_pool_the_media_changes_nothing(model, processor, clip):
    session = ChatSession(model, processor, clip)
    before, pooler = session.num_visual_tokens, session.model.pooler
    with pytest.raises(ValueError, match="does not fit a grid"):
        session.switch(AveragePooler((9, 3, 2)))
    assert (session.num_visual_tokens, session.model.pooler) == (before, pooler)
    session.switch(AveragePooler((4, 3, 3)))
    assert session.num_visual_tokens == 4
    answer(session, FIRST)
    assert session.num_answer_tokens in range(1, LENGTH + 1)


def test_an_image_has_no_times(model, processor, pictures):
    with pytest.raises(ValueError, match=r"wide\.png, an image, from 1\.0 to None s; expected no times"):
        ChatSession(model, processor, pictures[0][1], start=1.0)
