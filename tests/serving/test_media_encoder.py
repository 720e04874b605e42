"""Media are decoded once and encoded once, however many ask for them at the same time."""

import pickle
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from PIL import Image

from ppl.datamodules.frame_sampling import RandomInSegment
from ppl.datamodules.processing import Processor
from ppl.datamodules.records import MediumRef
from ppl.datamodules.watchdog import GuardedDecoder
from ppl.serving.encoded_media import EncodedMedia, Keeping, medium_at
from ppl.serving.media_encoder import MediaEncoder
from tests.modules.tiny import inputs_seen, plain_model

MANY = 8


class Decodings:
    """Counts what a processor reads, and lets readers go on once so many have come."""

    def __init__(self, processor, monkeypatch):
        self.paths = []
        self.gate = threading.Event()
        read = processor.read

        def count(ref):
            self.paths.append(ref.path)
            assert self.gate.wait(60)
            return read(ref)

        monkeypatch.setattr(processor, "read", count)


@pytest.fixture
def decodings(processor, monkeypatch):
    counted = Decodings(processor, monkeypatch)
    counted.gate.set()
    return counted


@pytest.fixture
def make(model, processor):
    return lambda memory_gib=1.0: MediaEncoder(model, processor, EncodedMedia(Keeping(memory_gib)))


@pytest.mark.parametrize("memory_gib", [0.0, 1.0])
def test_many_who_ask_at_once_share_one_decoding_and_one_encoding(make, model, decodings, clip, memory_gib):
    encoder = make(memory_gib)
    decodings.gate.clear()
    with inputs_seen(model.backbone.vision_tower) as seen, ThreadPoolExecutor(MANY) as pool:
        waiting = [pool.submit(encoder.prepare, [medium_at(clip)]) for _ in range(MANY)]
        decodings.gate.set()
        prepared = [job.result() for job in waiting]
        late = encoder.prepare([medium_at(clip)])  # decoded, but not yet encoded
        [first], *others = [encoder.encode(media) for media in [*prepared, late]]
    assert len(decodings.paths) == len(seen) == encoder.num_encoded == 1
    assert encoder.num_found == MANY
    assert all(other.grid is first.grid for [other] in others)
    assert first.prepared.frames.untyped_storage().nbytes() == 0


def test_what_is_kept_is_not_decoded_again_and_what_is_not_kept_is(make, decodings, clip):
    for memory_gib, expected in ((1.0, 1), (0.0, 2)):
        decodings.paths.clear()
        encoder = make(memory_gib)
        first, again = (encoder.read([medium_at(clip)])[0].grid for _ in range(2))
        assert torch.equal(first, again)
        assert (len(decodings.paths), encoder.num_encoded, encoder.num_found) == (expected, expected, 2 - expected)


def test_the_grid_is_that_of_the_model_alone(make, model, processor, clip):
    [encoded] = make().read([medium_at(clip)])
    with torch.no_grad():
        [prepared] = processor.prepare([processor.read(medium_at(clip))])
        assert torch.equal(encoded.grid, model.backbone.encode_frames(prepared.frames))
    assert torch.equal(encoded.frames, processor.read(medium_at(clip)).frames)


def test_a_copy_is_the_same_medium_and_keeps_its_own_path(make, decodings, clip, tmp_path):
    """Uploads lie under new names each time, and one's name is nobody else's business."""
    copy = shutil.copy(clip, tmp_path / "copy.mp4")
    encoder = make()
    together = encoder.encode([*encoder.prepare([medium_at(clip)]), *encoder.prepare([medium_at(copy)])])
    [later] = encoder.read([medium_at(copy)])
    assert [medium.ref.path for medium in [*together, later]] == [str(clip), str(copy), str(copy)]
    assert len(decodings.paths) == 1


def test_other_pixels_are_other_media(make, decodings, clip, tmp_path):
    """One image is tiled, and several are not; a part of a clip has other frames."""
    Image.effect_noise((96, 48), 50).convert("RGB").save(tmp_path / "a.png")
    image = MediumRef("image", str(tmp_path / "a.png"))
    encoder = make()
    [alone] = encoder.read([image])
    first, second = encoder.read([image, image])
    assert (alone.info.kind, first.info.kind) == ("image", "multi_image")
    assert len(alone.grid) > len(first.grid) == 1
    assert second.grid is first.grid
    encoder.read([medium_at(clip), image])
    encoder.read([medium_at(clip, 0.0, 1.0)])
    assert encoder.num_encoded == len(decodings.paths) == 4


def test_what_goes_wrong_does_so_for_one_and_is_tried_again_by_the_others(make, processor, monkeypatch, clip):
    """Each names a file of its own, and that of the first may be gone before it is read."""
    read, gate, paths = processor.read, threading.Event(), []

    def fail_at_first(ref):
        paths.append(ref.path)
        assert gate.wait(60)
        if len(paths) == 1:
            raise OSError("the disk is away")
        return read(ref)

    monkeypatch.setattr(processor, "read", fail_at_first)
    encoder = make()
    with ThreadPoolExecutor(MANY) as pool:
        waiting = [pool.submit(encoder.prepare, [medium_at(clip)]) for _ in range(MANY)]
        gate.set()
        errors = [str(job.exception()) for job in waiting]
    assert sorted(errors) == ["None"] * (MANY - 1) + ["the disk is away"]
    assert len(paths) == 2


def test_images_are_decoded_where_a_guarded_decoder_decodes(make, processor, monkeypatch, tmp_path):
    Image.effect_noise((96, 48), 50).convert("RGB").save(tmp_path / "a.png")
    image, asked = MediumRef("image", str(tmp_path / "a.png")), []
    expected, encoder = processor.read(image), make()

    def elsewhere(path, call):
        asked.append(path)
        return pickle.loads(pickle.dumps(call))()

    monkeypatch.setattr(processor, "decoder", GuardedDecoder())
    monkeypatch.setattr(processor.decoder, "ask", elsewhere)
    [encoded] = encoder.read([image])
    assert asked == [image.path]
    assert torch.equal(encoded.frames, expected.frames)
    assert encoded.decoded.key == expected.key


def test_a_broken_file_says_so(make, tmp_path):
    broken = tmp_path / "clip.mp4"
    broken.write_bytes(b"no video")
    with pytest.raises(ValueError, match=r"clip\.mp4"):
        make().prepare([MediumRef("video", str(broken))])
    with pytest.raises(FileNotFoundError, match="no such video"):
        make().prepare([MediumRef("video", str(tmp_path / "none.mp4"))])


def test_what_nobody_waits_for_any_more_is_let_go(make, clip):
    encoder = make()
    prepared = encoder.prepare([medium_at(clip)])
    assert len(encoder._wanted) == 1
    del prepared
    assert len(encoder._wanted) == 0


def test_frames_that_are_drawn_at_random_are_drawn_for_each(clip):
    model = plain_model()
    encoder = MediaEncoder(
        model, Processor(model.input_spec, num_frames=2, sampler=RandomInSegment()), EncodedMedia(Keeping())
    )
    waiting = [encoder.prepare([medium_at(clip)]) for _ in range(2)]
    for media in waiting:
        encoder.encode(media)
    assert (encoder.num_encoded, len(encoder.kept)) == (2, 0)
