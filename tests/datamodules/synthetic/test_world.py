import numpy as np
import pytest

from ppl.datamodules.synthetic.world import (
    BACKGROUNDS,
    COLOURS,
    FRAME_SIZE,
    SHAPES,
    SPRITE_SIZE,
    Scene,
    Thing,
    object_mask,
    random_scene,
    render,
)

GRID = (6, 6)
NOISE = 10


def scenes(count=60, **options):
    rng = np.random.default_rng(7)
    return [random_scene(rng, **options) for _ in range(count)]


def alone(thing, num_frames=8):
    return Scene("black", (thing,), num_frames, 0)


def near(frame, colour):
    """Pixels of an (3, h, w) frame that show a colour, up to the noise."""
    difference = np.abs(frame.astype(int) - np.array(colour)[:, None, None])
    return (difference <= NOISE).all(axis=0)


def test_objects_of_a_scene_share_neither_shape_nor_colour():
    for scene in scenes():
        assert len(scene.objects) == 6
        assert len({thing.shape for thing in scene.objects}) == 6
        assert len({thing.colour for thing in scene.objects}) == 6


def test_every_value_is_drawn():
    things = [thing for scene in scenes() for thing in scene.objects]
    assert {thing.shape for thing in things} == set(SHAPES)
    assert {thing.colour for thing in things} == set(COLOURS)
    assert {thing.direction for thing in things} == {"left", "right", "up", "down"}
    assert {scene.background for scene in scenes()} == set(BACKGROUNDS)


def test_objects_stay_inside_the_frame_while_visible():
    for scene in scenes():
        for thing in scene.objects:
            assert 0 <= thing.first_frame <= thing.last_frame < scene.num_frames
            for t in range(thing.first_frame, thing.last_frame + 1):
                assert all(0 <= at <= FRAME_SIZE - SPRITE_SIZE and at % 8 == 0 for at in thing.position(t))


@pytest.mark.parametrize(
    ("direction", "axis", "sign"), [("left", 1, -1), ("right", 1, 1), ("up", 0, -1), ("down", 0, 1)]
)
def test_pixels_move_the_way_the_direction_says(direction, axis, sign):
    start = (16, 16)
    frames = render(alone(Thing("square", "red", direction, 2, 4, start)))
    centres = [np.argwhere(near(frame, COLOURS["red"])).mean(axis=0) for frame in frames[2:5]]
    steps = np.diff(centres, axis=0)
    np.testing.assert_allclose(steps[:, axis], 8 * sign, atol=0.3)
    np.testing.assert_allclose(steps[:, 1 - axis], 0, atol=0.3)
    for hidden in (0, 1, 5, 6, 7):
        assert not near(frames[hidden], COLOURS["red"]).any()


@pytest.mark.parametrize("shape", SHAPES)
def test_the_mask_holds_exactly_the_patches_that_show_the_object(shape):
    scene = alone(Thing(shape, "yellow", "right", 1, 4, (8, 0)))
    shown = near(render(scene)[3], COLOURS["yellow"])
    patches = shown.reshape(6, 8, 6, 8).any(axis=(1, 3))
    np.testing.assert_array_equal(object_mask(scene, 0, GRID)[3], patches)
    assert not object_mask(scene, 0, GRID)[[0, 5, 6, 7]].any()


def test_shapes_look_different():
    """Each pair differs in a tenth of the sprite at least, or the tower could not tell them apart."""
    looks = {}
    for shape in SHAPES:
        frame = render(alone(Thing(shape, "white", "up", 0, 2, (16, 16))))[0]
        looks[shape] = near(frame, COLOURS["white"])[16:30, 16:30]
    for first in SHAPES:
        for second in SHAPES:
            if first < second:
                assert (looks[first] ^ looks[second]).mean() > 0.1, (first, second)


def test_colours_are_further_apart_than_the_noise():
    values = [np.array(rgb) for rgb in [*COLOURS.values(), *BACKGROUNDS.values()]]
    apart = [np.abs(a - b).max() for i, a in enumerate(values) for b in values[:i]]
    assert min(apart) > 2 * NOISE


def test_a_seed_draws_the_same_scene_and_the_same_pixels():
    first, second = (random_scene(np.random.default_rng(5)) for _ in range(2))
    assert first == second
    np.testing.assert_array_equal(render(first), render(second))
    assert random_scene(np.random.default_rng(6)) != first


@pytest.mark.parametrize("num_frames", [1, 2, 8, 20])
def test_scenes_of_any_length(num_frames):
    for scene in scenes(10, num_frames=num_frames, num_objects=2):
        frames = render(scene)
        assert frames.shape == (num_frames, 3, FRAME_SIZE, FRAME_SIZE)
        assert frames.dtype == np.uint8
