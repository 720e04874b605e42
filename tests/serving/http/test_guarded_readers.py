"""Some processes read for any number of threads, and no more of them start than are busy at once."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch

from ppl.datamodules.decoders.pyav import PyAVDecoder
from ppl.datamodules.frame_sampling import Midpoints
from ppl.datamodules.medium_keys import sampled_key
from ppl.datamodules.records import MediumRef
from ppl.datamodules.video_source import VideoError
from ppl.serving.http.guarded_readers import GuardedReaders


@pytest.fixture(scope="module")
def readers():
    return GuardedReaders(PyAVDecoder(max_pixels=10**6), 60.0, 2)


def started(readers):
    return sum(one._child is not None for one in readers._idle.queue)


def test_threads_read_at_once_what_one_reads_alone_and_wait_for_a_process(readers, clip):
    expected = PyAVDecoder().read(clip, Midpoints(), 4, None, None)
    for _ in range(2):
        assert torch.equal(readers.read(clip, Midpoints(), 4, None, None).frames, expected.frames)
    assert started(readers) == 1
    together = Barrier(3)

    def read(_):
        together.wait(60)
        clips = [readers.read(clip, Midpoints(), 4, None, None) for _ in range(3)]
        with pytest.raises(VideoError, match="FFmpeg cannot open it"):
            readers.read(__file__, Midpoints(), 4, None, None)
        return clips

    with ThreadPoolExecutor(3) as threads:
        for clips in threads.map(read, range(3)):
            assert all(torch.equal(each.frames, expected.frames) for each in clips)
    assert started(readers) == 2


def test_frames_are_known_by_the_key_of_those_of_the_decoder_itself(readers):
    ref = MediumRef("video", "a.mp4")
    guarded, plain = (sampled_key("digest", ref, 4, Midpoints(), decoder) for decoder in (readers, PyAVDecoder()))
    assert guarded == plain != ""
