"""What is kept of media, against a dictionary and a list of uses."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ppl.batches import MediumInfo
from ppl.datamodules.media_reading import DecodedMedium
from ppl.datamodules.processing import PreparedMedium
from ppl.datamodules.records import MediumRef
from ppl.serving.encoded_media import EncodedMedia, EncodedMedium, Keeping, medium_at

KIB = 2**10
BYTES_PER_GIB = 2**30


def medium(num_bytes):
    """Half of it grid, half of it frames."""
    frames = torch.zeros(1, 3, 1, num_bytes // 6, dtype=torch.uint8)
    grid = torch.zeros(1, 1, 1, (num_bytes - frames.nbytes) // 4)
    empty = torch.zeros(0, 3, 4, 4, dtype=torch.uint8)
    prepared = PreparedMedium(empty, MediumInfo(0, "image", 1, (1, 1), ""))
    return EncodedMedium(MediumRef("image", ""), DecodedMedium("image", frames, ""), prepared, grid)


@dataclass
class Model:
    """What should be kept: keys with time of last use and size, the last used at the end."""

    room: int
    seconds: int

    def __post_init__(self):
        self.uses = []

    def now(self, time):
        self.uses = [use for use in self.uses if use[1] >= time - self.seconds]

    def get(self, key, time):
        self.now(time)
        found = [use for use in self.uses if use[0] == key]
        self.uses = [use for use in self.uses if use[0] != key] + [(key, time, size) for _, _, size in found]
        return bool(found)

    def put(self, key, time, size):
        self.now(time)
        if not key or size > self.room:
            return
        self.uses = [use for use in self.uses if use[0] != key] + [(key, time, size)]
        while sum(size for _, _, size in self.uses) > self.room:
            del self.uses[0]


steps = st.tuples(
    st.sampled_from(["get", "put"]),
    st.sampled_from(["", "a", "b", "c", "d"]),
    st.integers(1, 6).map(lambda n: n * 12 * KIB),
    st.integers(0, 8),
)


@given(st.lists(steps, max_size=40), st.integers(0, 12).map(lambda n: n * 12 * KIB), st.integers(1, 20))
def test_the_last_used_are_kept_within_memory_and_time(steps, room, seconds):
    now = 0
    kept = EncodedMedia(Keeping(room / BYTES_PER_GIB, float(seconds)), lambda: now)
    model = Model(room, seconds)
    for what, key, size, passed in steps:
        now += passed
        if what == "get":
            found = kept.get(key)
            assert (found is not None) == model.get(key, now)
            assert found is None or found.num_bytes == next(size for k, _, size in model.uses if k == key)
        else:
            kept.put(key, medium(size))
            model.put(key, now, size)
        assert kept.num_bytes == sum(size for _, _, size in model.uses) <= room
        assert len(kept) == len(model.uses)
    now += seconds + 1
    kept.drop_old()
    assert (kept.num_bytes, len(kept)) == (0, 0)


def test_grid_and_frames_count():
    assert medium(12 * KIB).num_bytes == 12 * KIB
    assert medium(12 * KIB).grid.nbytes == medium(12 * KIB).frames.nbytes == 6 * KIB


@pytest.mark.parametrize("values", [(-1.0, 1.0), (1.0, 0.0), (float("nan"), 1.0)])
def test_keeping_makes_sense(values):
    with pytest.raises(ValueError, match=r"got memory_gib=.* and seconds=.*, expected 0 or more, and more than 0"):
        Keeping(*values)


def test_a_clip_is_described_by_its_content_and_its_ends(clip):
    assert medium_at(clip, 0.5, 1.5) == MediumRef("video", str(clip), 0.5, 1.5)
