"""Golden numbers of frames, against the rules as their authors state them, on a constant frame rate."""

from __future__ import annotations

import copy
import pickle
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ppl.datamodules.frame_sampling import (
    AtRate,
    FrameSampler,
    KeyFrames,
    Linspace,
    Midpoints,
    RandomInSegment,
    SegmentIndices,
    SegmentStarts,
    Timeline,
)

RATES = st.sampled_from([24.0, 25.0, 30.0, 30000 / 1001, 60.0])
SAMPLERS = [Midpoints(), SegmentIndices(), SegmentStarts(), Linspace(), AtRate(2.0), RandomInSegment(), KeyFrames()]


def timeline(count: int, fps: float = 25.0, start: float = 0.0, end: float | None = None, keys=None) -> Timeline:
    length = count / fps
    return Timeline(start, end or length, length, fps, 1000, lambda: keys or [0.0])


def shown(sampler: FrameSampler, clip: Timeline, num_frames: int) -> list[int]:
    """Numbers of the frames on screen, where frame k is shown from k / fps on."""
    return [int(time * clip.fps + 1e-6) for time in sampler.times(clip, num_frames)]


GOLDEN: list[tuple[FrameSampler, int, int, list[int]]] = [
    (Midpoints(), 100, 8, [6, 18, 31, 43, 56, 68, 81, 93]),
    (Midpoints(), 3, 5, [0, 0, 1, 2, 2]),
    (SegmentIndices(), 100, 8, [6, 18, 31, 43, 56, 68, 80, 93]),
    (SegmentIndices(), 3, 5, [0, 0, 1, 1, 2]),
    (Linspace(), 100, 8, [0, 14, 28, 42, 56, 70, 84, 99]),
    (Linspace(), 3, 5, [0, 0, 1, 1, 2]),
    (Linspace(), 100, 1, [0]),
    (SegmentStarts(), 250, 4, [0, 62, 124, 186]),
    (SegmentStarts(), 100, 8, [0, 25, 50, 75]),
    (SegmentStarts(), 3, 5, [0]),
    (AtRate(1.0), 100, 8, [0, 25, 50, 75]),
    (AtRate(5.0), 100, 8, [0, 14, 28, 42, 56, 70, 84, 99]),
    (AtRate(99.0), 4, 8, [0, 1, 2, 3]),
    (RandomInSegment(7), 100, 5, [1, 38, 59, 63, 87]),
]


@pytest.mark.parametrize(("sampler", "count", "num_frames", "expected"), GOLDEN)
def test_golden_numbers(sampler: FrameSampler, count: int, num_frames: int, expected: list[int]) -> None:
    assert shown(sampler, timeline(count), num_frames) == expected


@given(st.integers(1, 5000), st.integers(1, 128), RATES)
@settings(deadline=None, max_examples=100)
def test_rules_are_those_of_their_authors(count: int, num_frames: int, fps: float) -> None:
    """In numpy, from ppllava/test/video_utils.py and LLaVA-NeXT's llava/utils.py."""
    clip = timeline(count, fps)
    middles = np.floor((2 * np.arange(num_frames) + 1) * count / (2 * num_frames) + 1e-6).astype(int)
    assert shown(Midpoints(), clip, num_frames) == middles.tolist()

    segment = (count - 1) / num_frames
    official = [int(segment / 2 + np.round(segment * place)) for place in range(num_frames)]
    assert shown(SegmentIndices(), clip, num_frames) == official
    assert all(abs(int(ours) - theirs) <= 2 for ours, theirs in zip(middles, official, strict=True))

    ends_included = np.linspace(0, count - 1, num_frames, dtype=int).tolist()
    assert shown(Linspace(), clip, num_frames) == ends_included

    every = list(range(0, count, round(fps / 1.0)))
    assert shown(AtRate(1.0), clip, num_frames) == (every if len(every) <= num_frames else ends_included)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
@given(st.integers(1, 900), st.integers(1, 40), st.floats(0, 0.9), st.floats(0.05, 1.0), RATES)
@settings(deadline=None, max_examples=25)
def test_times_are_in_order_and_inside_the_clip(
    sampler: FrameSampler, count: int, num_frames: int, place: float, share: float, fps: float
) -> None:
    length = count / fps
    clip = Timeline(place * length, place * length + share * (1 - place) * length, length, fps, 1000, lambda: [0.0])
    times = sampler.times(clip, num_frames)
    assert times == sorted(times)
    assert 1 <= len(times) <= num_frames
    if not isinstance(sampler, AtRate | KeyFrames | SegmentStarts):
        assert len(times) == num_frames
    # numbers of frames stand for the middle of the time for which they are shown
    assert all(clip.start - 1 / fps <= time < clip.end + 1 / fps for time in times)
    assert times[-1] < length


def test_clips_of_a_video() -> None:
    clip = timeline(100, start=1.0, end=2.0)
    assert clip.indices() == (25, 49)
    assert shown(Linspace(), clip, 3) == [25, 37, 49]
    assert shown(AtRate(5.0), clip, 8) == [25, 30, 35, 40, 45]
    assert shown(SegmentIndices(), clip, 2) == [31, 43]  # seg = 12.5: int(25 + 6.25 + round(12.5 * i)), to even
    assert shown(Midpoints(), clip, 2) == [31, 43]
    assert all(25 <= index <= 49 for index in shown(RandomInSegment(), clip, 25))
    assert shown(RandomInSegment(), clip, 25) == list(range(25, 50))  # one frame in each segment leaves no choice


@given(st.integers(1, 1000), st.integers(1, 64), st.integers(0, 99), st.integers(0, 99))
@settings(deadline=None, max_examples=50)
def test_random_frames_come_one_from_each_segment(count: int, num_frames: int, seed: int, epoch: int) -> None:
    sampler = RandomInSegment(seed)
    sampler.set_epoch(epoch)
    bounds = np.linspace(0, count, num_frames + 1).astype(int)
    found = shown(sampler, timeline(count), num_frames)
    for low, high, index in zip(bounds, bounds[1:], found, strict=False):
        assert low <= index < max(high, low + 1)


def test_random_frames_depend_on_seed_epoch_and_clip_only() -> None:
    def draw(seed: int = 0, epoch: int = 0, **changes: object) -> list[int]:
        sampler = RandomInSegment(seed)
        sampler.set_epoch(epoch)
        return shown(sampler, timeline(5000)._replace(**changes), 16)

    assert draw() == draw()
    assert len({tuple(row) for row in (draw(), draw(seed=1), draw(epoch=1), draw(size=999))}) == 4
    flat = np.concatenate([np.array(draw(epoch=epoch)) % 312 for epoch in range(200)])
    assert abs(flat.mean() - 156) < 7  # 3200 draws, uniform on 0 … 311: standard error 1.6


def test_workers_that_run_hear_of_the_epoch() -> None:
    sampler, before = RandomInSegment(), timeline(5000)
    first = shown(sampler, before, 8)
    receive, send = torch.multiprocessing.get_context("fork").Pipe(duplex=False)
    go, ready = (torch.multiprocessing.get_context("fork").Event() for _ in range(2))

    def work() -> None:
        ready.set()
        assert go.wait(30)
        send.send(shown(sampler, before, 8))

    worker = torch.multiprocessing.get_context("fork").Process(target=work)
    worker.start()
    assert ready.wait(30)
    sampler.set_epoch(3)
    go.set()
    assert receive.recv() == shown(sampler, before, 8) != first
    worker.join()


def test_key_frames() -> None:
    keys = [0.0, 0.5, 1.0, 1.7, 2.9]
    assert KeyFrames().times(timeline(100, keys=keys), 8) == keys
    assert KeyFrames().times(timeline(100, keys=keys), 3) == [0.0, 1.0, 2.9]
    assert KeyFrames().times(timeline(100, start=0.5, end=1.7, keys=keys), 8) == [0.5, 1.0]
    assert KeyFrames().times(timeline(100, start=3.0, keys=keys), 8) == [3.0]


def test_a_rule_names_itself_for_caches() -> None:
    assert repr(Linspace()) == "Linspace()"
    assert repr(AtRate(0.5)) == "AtRate(fps=0.5)"
    assert repr(pickle.loads(pickle.dumps(RandomInSegment(3)))) == "RandomInSegment(seed=3)"
    assert [sampler.is_random for sampler in SAMPLERS] == [False, False, False, False, False, True, False]
    assert shown(copy.deepcopy(RandomInSegment(3)), timeline(99), 4) == shown(RandomInSegment(3), timeline(99), 4)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_errors_say_what_to_change(sampler: FrameSampler) -> None:
    with pytest.raises(ValueError, match="num_frames=0, expected at least 1; ask for one or more frames"):
        sampler.times(timeline(10), 0)


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf")])
def test_errors_of_a_rate(fps: float) -> None:
    with pytest.raises(ValueError, match=re.escape(f"fps={fps}, expected more than 0; ask for")):
        AtRate(fps)
