"""A small world of moving coloured shapes: scenes are drawn by seed, rendered to uint8 frames.

Objects lie on a lattice of 8 pixels, one patch of the tiny backbone, and move by one step of it per frame: a tower
that cuts frames into patches by one linear map, as CLIP's does, learns shapes at a fixed phase in seconds, and at
every phase only in many minutes.

Axes: t frames | h w pixel rows, columns. A scene is data; rendering it is a pure function of (scene, size).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

SHAPES = ("circle", "square", "triangle", "diamond", "plus", "cross", "ring", "bar")
COLOURS = {
    "red": (230, 40, 40),
    "green": (40, 190, 60),
    "blue": (50, 90, 240),
    "yellow": (240, 220, 40),
    "cyan": (40, 220, 230),
    "magenta": (230, 50, 220),
    "white": (245, 245, 245),
    "orange": (245, 140, 30),
}
BACKGROUNDS = {"black": (12, 12, 12), "gray": (110, 110, 110), "navy": (20, 20, 80), "brown": (95, 60, 30)}
DIRECTIONS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}

FRAME_SIZE = 48
SPRITE_SIZE = 14
_SPEED = 8
_LATTICE = 8
_NOISE = 10


@dataclass(frozen=True)
class Thing:
    """One moving object; positions are pixels of its top-left corner, frames count from 0."""

    shape: str
    colour: str
    direction: str
    first_frame: int
    last_frame: int
    start: tuple[int, int]

    @property
    def name(self) -> str:
        """Colour and shape, which no other object of the scene shares."""
        return f"{self.colour} {self.shape}"

    @property
    def middle(self) -> float:
        """Mean time of its visible frames, in frames; a frame's own middle is at + 0.5."""
        return (self.first_frame + self.last_frame + 1) / 2

    def visible(self, frame: int) -> bool:
        """Whether it is in the picture at ``frame``."""
        return self.first_frame <= frame <= self.last_frame

    def position(self, frame: int) -> tuple[int, int]:
        """Top-left (row, column) in ``frame``."""
        dy, dx = DIRECTIONS[self.direction]
        step = (frame - self.first_frame) * _SPEED
        return self.start[0] + dy * step, self.start[1] + dx * step


@dataclass(frozen=True)
class Scene:
    """What happens in one video."""

    background: str
    objects: tuple[Thing, ...]
    num_frames: int
    noise_seed: int


def random_scene(rng: np.random.Generator, *, num_frames: int = 8, num_objects: int = 6) -> Scene:
    """Draw a scene whose objects all differ in shape and all differ in colour."""
    shapes = rng.permutation(SHAPES)[:num_objects]
    colours = rng.permutation(list(COLOURS))[:num_objects]
    objects = tuple(
        _random_thing(rng, str(shape), str(colour), num_frames) for shape, colour in zip(shapes, colours, strict=True)
    )
    return Scene(str(rng.choice(list(BACKGROUNDS))), objects, num_frames, int(rng.integers(2**31)))


def _random_thing(rng: np.random.Generator, shape: str, colour: str, num_frames: int) -> Thing:
    duration = min(int(rng.integers(3, 6)), num_frames)
    first = int(rng.integers(0, num_frames - duration + 1))
    direction = str(rng.choice(list(DIRECTIONS)))
    travel = (duration - 1) * _SPEED
    free = FRAME_SIZE - SPRITE_SIZE
    start = []
    for axis in range(2):
        step = DIRECTIONS[direction][axis]
        low, high = (travel, free) if step < 0 else (0, free - travel if step > 0 else free)
        start.append(_LATTICE * int(rng.integers(-(-low // _LATTICE), high // _LATTICE + 1)))
    return Thing(shape, colour, direction, first, first + duration - 1, (start[0], start[1]))


def render(scene: Scene) -> np.ndarray:
    """Draw a scene as uint8 frames of shape (t, 3, h, w)."""
    frames = np.empty((scene.num_frames, FRAME_SIZE, FRAME_SIZE, 3), dtype=np.int16)
    frames[:] = BACKGROUNDS[scene.background]
    for t in range(scene.num_frames):
        for thing in scene.objects:
            if thing.visible(t):
                y, x = thing.position(t)
                frames[t, y : y + SPRITE_SIZE, x : x + SPRITE_SIZE][_sprite(thing.shape)] = COLOURS[thing.colour]
    frames += _noise_bank()[(scene.noise_seed + 7 * np.arange(scene.num_frames)) % len(_noise_bank())]
    return np.ascontiguousarray(frames.clip(0, 255).astype(np.uint8).transpose(0, 3, 1, 2))


def object_mask(scene: Scene, thing: int, grid: tuple[int, int]) -> np.ndarray:
    """Mark the patches an object touches, over all frames: bool (t, h, w) for ``grid`` = (h, w) patches a frame."""
    rows, columns = grid
    mask = np.zeros((scene.num_frames, rows, columns), dtype=bool)
    shape = scene.objects[thing]
    for t in range(scene.num_frames):
        if shape.visible(t):
            y, x = shape.position(t)
            ys, xs = np.nonzero(_sprite(shape.shape))
            mask[t, (ys + y) * rows // FRAME_SIZE, (xs + x) * columns // FRAME_SIZE] = True
    return mask


@cache
def _noise_bank() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(-_NOISE, _NOISE + 1, size=(97, FRAME_SIZE, FRAME_SIZE, 3), dtype=np.int16)


@cache
def _sprite(shape: str) -> np.ndarray:
    """A shape's mask, bool (SPRITE_SIZE, SPRITE_SIZE)."""
    axis = np.linspace(-1, 1, SPRITE_SIZE)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    radius = np.hypot(y, x)
    masks = {
        "circle": radius <= 1,
        "square": np.maximum(abs(y), abs(x)) <= 0.86,
        "triangle": (y <= 0.9) & (abs(x) <= (y + 1) / 1.95),
        "diamond": abs(y) + abs(x) <= 1,
        "plus": np.minimum(abs(y), abs(x)) <= 0.3,
        "ring": (radius <= 1.05) & (radius >= 0.55),
        "cross": np.minimum(abs(y - x), abs(y + x)) <= 0.36,
        "bar": abs(y) <= 0.4,
    }
    return masks[shape]
