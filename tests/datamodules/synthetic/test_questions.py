"""Answers are read off the scene a second time, by the words of the question alone."""

import re
from collections import Counter

import numpy as np
import open_clip
import pytest

from ppl.datamodules.synthetic.questions import QUESTION_TYPES, ask, preamble, vocabulary
from ppl.datamodules.synthetic.world import BACKGROUNDS, COLOURS, DIRECTIONS, SHAPES, random_scene, render
from tests.modules.tiny import CLIP_FOLDER, tiny_backbone

DRAWN = 2000
EVEN = dict.fromkeys(QUESTION_TYPES, 1.0)


@pytest.fixture(scope="module")
def drawn():
    rng = np.random.default_rng(11)
    scenes = [random_scene(rng) for _ in range(200)]
    return [(scenes[i % 200], ask(scenes[i % 200], EVEN, rng)) for i in range(DRAWN)]


def named(scene, words):
    """Indices of the objects that a phrase such as "red", "ring" or "red ring" is true of."""
    kinds, colours = set(words) & set(SHAPES), set(words) & set(COLOURS)
    return [
        i
        for i, thing in enumerate(scene.objects)
        if (not kinds or thing.shape in kinds) and (not colours or thing.colour in colours)
    ]


def the(scene, words):
    (only,) = named(scene, words)
    return scene.objects[only]


def frames_shown(thing):
    return [t for t in range(100) if thing.first_frame <= t <= thing.last_frame]


def read_off(scene, text):
    """The answer, from the scene and the words."""
    words = text.split()
    if text == "what colour is the background ?":
        return scene.background
    if match := re.fullmatch(r"which appears first , the (.*) or the (.*) \?", text):
        left, right = (the(scene, phrase.split()) for phrase in match.groups())
        assert frames_shown(left)[0] != frames_shown(right)[0]
        return min(left, right, key=lambda thing: frames_shown(thing)[0]).colour
    if text.startswith("is there a"):
        return "yes" if named(scene, words) else "no"
    thing = the(scene, words)
    if text.startswith("what colour"):
        assert not set(words) & set(COLOURS), "the question gives its answer away"
        return thing.colour
    if text.startswith("what shape"):
        assert not set(words) & set(SHAPES), "the question gives its answer away"
        return thing.shape
    if text.startswith("which way"):
        (y0, x0), (y1, x1) = thing.position(thing.first_frame), thing.position(thing.last_frame)
        ways = {(0, -1): "left", (0, 1): "right", (-1, 0): "up", (1, 0): "down"}
        return ways[int(np.sign(y1 - y0)), int(np.sign(x1 - x0))]
    assert text.startswith("when does")
    shown = frames_shown(thing)
    earlier, later = (sum(t < scene.num_frames / 2 for t in shown), sum(t >= scene.num_frames / 2 for t in shown))
    return "early" if earlier > later else "late"


def test_every_answer_is_the_one_in_the_scene(drawn):
    wrong = [(q.text, q.answer) for scene, q in drawn if read_off(scene, q.text) != q.answer]
    assert wrong == []


def test_a_colour_that_is_asked_for_is_in_the_pixels(drawn):
    """One reading that does not trust the scene's own fields."""
    checked = 0
    for scene, question in drawn[:300]:
        if question.type == "colour":
            thing = scene.objects[question.asked[0]]
            y, x = thing.position(thing.first_frame)
            frame = render(scene)[thing.first_frame, :, y : y + 14, x : x + 14].astype(int)
            hit = (np.abs(frame - np.array(COLOURS[question.answer])[:, None, None]) <= 10).all(axis=0)
            covered = [o for o in scene.objects if o is not thing and o.visible(thing.first_frame)]
            checked += 1
            assert hit.any() or covered
    assert checked > 20


def test_asked_are_the_objects_the_words_name(drawn):
    for scene, question in drawn:
        if question.type in ("background", "exist"):
            expected = [] if question.type == "background" else named(scene, question.text.split())
        elif question.type == "order":
            halves = question.text.split(" or ")
            expected = [i for half in halves for i in named(scene, half.split())]
        else:
            expected = named(scene, question.text.split())
        assert list(question.asked) == expected, question.text


def test_types_come_by_their_weights_and_answers_are_balanced(drawn):
    types = Counter(question.type for _, question in drawn)
    assert types.keys() == set(QUESTION_TYPES)
    assert min(types.values()) > DRAWN / 7 * 0.7
    for kind in ("exist", "when"):
        answers = Counter(question.answer for _, question in drawn if question.type == kind)
        assert min(answers.values()) / sum(answers.values()) > 0.35, answers
    rng = np.random.default_rng(0)
    only = [ask(drawn[0][0], EVEN | dict.fromkeys(set(QUESTION_TYPES) - {"motion"}, 0.0), rng) for _ in range(20)]
    assert {question.type for question in only} == {"motion"}


def test_the_first_named_is_not_always_the_answer_of_order(drawn):
    first = [q.answer in q.text.split(" or ")[0].split() for _, q in drawn if q.type == "order"]
    assert 0.35 < np.mean(first) < 0.65


def test_the_vocabulary_and_the_tiny_tokenizer_know_every_word(drawn):
    words = {word for _, question in drawn for word in [*question.text.split(), question.answer]}
    assert words - set(vocabulary()) == set()
    tokenizer = tiny_backbone().tokenizer
    for _, question in drawn:
        ids = tokenizer(f"USER: {question.text} ASSISTANT: {question.answer}", add_special_tokens=False).input_ids
        assert tokenizer.unk_token_id not in ids, question
        assert tokenizer.decode(ids).split()[-1] == question.answer


@pytest.mark.parametrize("number", [0, 1, 2, 7, 90])
def test_a_preamble_has_as_many_words_and_ends_a_sentence(number):
    drawn = {preamble(number, np.random.default_rng(seed)) for seed in range(50)}
    assert {len(text.split()) for text in drawn} == {number}
    assert all(text.endswith(".") for text in drawn if number)
    assert len(drawn) > (40 if number == 90 else 0)


def test_a_preamble_says_nothing_about_a_scene():
    words = {word for seed in range(200) for word in preamble(90, np.random.default_rng(seed)).split()}
    answers = {*SHAPES, *COLOURS, *BACKGROUNDS, *DIRECTIONS, "early", "late", "yes", "no", "background", "?"}
    assert words & answers == set()
    assert words - set(vocabulary()) == set()


def test_a_word_of_a_preamble_is_one_token_of_both_tokenizers():
    """So that 90 words and the start token put the question's first word at position 91."""
    text = preamble(90, np.random.default_rng(0))
    tiny = tiny_backbone().tokenizer(text, add_special_tokens=False).input_ids
    assert len(tiny) == 90
    assert tiny_backbone().tokenizer.unk_token_id not in tiny
    assert len(open_clip.get_tokenizer(f"local-dir:{CLIP_FOLDER}").encode(text)) == 90


def test_a_preamble_of_less_than_nothing_is_an_error():
    with pytest.raises(ValueError, match="got a preamble of -1 words, expected 0 or more"):
        preamble(-1, np.random.default_rng(0))
