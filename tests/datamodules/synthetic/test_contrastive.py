"""Positives and regions, derived a second time from the words and the pixels."""

import numpy as np
import pytest
import torch

from ppl.datamodules.synthetic.contrastive import FrameQuestions, NamingMix, Query, draw_query
from ppl.datamodules.synthetic.world import BACKGROUNDS, COLOURS, SHAPES, object_mask, random_scene, render
from tests.modules.tiny import guided_model, plain_model

GRID = (6, 6)
EVEN = NamingMix(1.0, 1.0, 1.0, 1.0)


@pytest.fixture(scope="module")
def inputs():
    return guided_model().input_spec


def drawn(held_out, count=40):
    """Frames and queries as the dataset draws them, with the scenes kept."""
    rng = np.random.default_rng(3)
    found = []
    while len(found) < count:
        scene = random_scene(rng) if held_out else random_scene(rng, num_frames=1, num_objects=int(rng.integers(1, 4)))
        time = int(rng.integers(scene.num_frames))
        if any(thing.visible(time) for thing in scene.objects):
            found.append((scene, time, draw_query(scene, time, EVEN, rng)))
    return found


def true_of(text, scene, time):
    """Whether a frame shows what the words name, by the words alone."""
    words = set(text.split())
    if "background" in words:
        colours = words & set(BACKGROUNDS)
        return not colours or colours == {scene.background}
    shapes, colours = words & set(SHAPES), words & set(COLOURS)
    assert shapes or colours
    for thing in scene.objects:
        fits = (not shapes or {thing.shape} == shapes) and (not colours or {thing.colour} == colours)
        if fits and thing.first_frame <= time <= thing.last_frame:
            return True
    return False


@pytest.mark.parametrize("held_out", [False, True])
def test_positives_by_brute_force(held_out):
    triples = drawn(held_out)
    assert {query.kind for *_, query in triples} == {"shape", "colour", "both", "background"}
    positives = 0
    for scene, time, own in triples:
        assert own.is_true_of(scene, time)
        for *_, query in triples:
            expected = true_of(query.text, scene, time)
            assert query.is_true_of(scene, time) == expected, query.text
            positives += expected
    assert positives > len(triples), "frames answer to other frames' questions too: a batch of one-to-one would lie"


@pytest.mark.parametrize("held_out", [False, True])
def test_regions_hold_the_named_object_s_patches(held_out):
    for scene, time, query in drawn(held_out):
        region = query.region(scene, time, GRID)
        if query.kind == "background":
            objects = [object_mask(scene, i, GRID)[time] for i in range(len(scene.objects))]
            np.testing.assert_array_equal(region, ~np.logical_or.reduce(objects))
            continue
        words = set(query.text.split())
        (asked,) = [i for i, thing in enumerate(scene.objects) if words >= set(_name(query, thing))]
        np.testing.assert_array_equal(region, object_mask(scene, asked, GRID)[time])
        assert region.any(), "an object that is asked about is visible"


def _name(query, thing):
    return {"shape": [thing.shape], "colour": [thing.colour], "both": [thing.shape, thing.colour]}[query.kind]


def test_questions_by_colour_do_not_name_the_shape():
    for *_, query in drawn(held_out=True):
        words = set(query.text.split())
        named = bool(words & set(SHAPES)), bool(words & set(COLOURS))
        assert (
            named
            == {
                "shape": (True, False),
                "colour": (False, True),
                "both": (True, True),
                "background": (False, False),
            }[query.kind]
        )


@pytest.mark.parametrize("held_out", [False, True])
def test_a_batch(inputs, held_out):
    data = FrameQuestions(inputs, 5, 3, 12, EVEN, held_out=held_out)
    batch, again = data[1], FrameQuestions(inputs, 5, 3, 12, EVEN, held_out=held_out)[1]
    assert batch["kind"] == "video"
    assert batch["pixel_values"].shape == (12, 3, 48, 48)
    assert batch["positives"].shape == (12, 12)
    assert batch["positives"].diagonal().all()
    assert not batch["positives"].all()
    assert batch["regions"].shape == (12, *GRID)
    assert len(batch["prompt_ids"]) == len(batch["categories"]) == 12
    assert torch.equal(batch["pixel_values"], again["pixel_values"])
    assert torch.equal(batch["prompt_ids"], again["prompt_ids"])
    assert not torch.equal(batch["pixel_values"], data[2]["pixel_values"])
    assert len(list(data)) == 3


def test_preambles_are_short_more_often_than_long_and_change_nothing_else(inputs):
    plain, long = (FrameQuestions(inputs, 5, 1, 200, EVEN, held_out=False, preamble_words=w)[0] for w in (0.0, 15.0))
    lengths = (long["prompt_ids"] != 0).sum(dim=1)
    assert plain["prompt_ids"].shape[1] < 15
    assert 40 < lengths.max() <= 77
    assert (lengths < 30).sum() > (lengths > 40).sum() > 0
    assert torch.equal(long["pixel_values"], plain["pixel_values"])
    assert torch.equal(long["positives"], plain["positives"])


def test_the_region_of_a_one_object_frame_is_where_its_pixels_are(inputs):
    rng = np.random.default_rng(0)
    for _ in range(10):
        scene = random_scene(rng, num_frames=1, num_objects=1)
        query = Query("shape", "", shape=scene.objects[0].shape)
        differs = np.abs(render(scene)[0].astype(int) - np.array(BACKGROUNDS[scene.background])[:, None, None]) > 10
        patches = differs.any(axis=0).reshape(6, 8, 6, 8).any(axis=(1, 3))
        np.testing.assert_array_equal(query.region(scene, 0, GRID), patches)


def test_a_model_without_a_text_tower_cannot_be_aligned():
    with pytest.raises(ValueError, match="without a text tower, expected an aligner to train: use AlignModule"):
        FrameQuestions(plain_model().input_spec, 0, 1, 2, EVEN, held_out=False)
