import shutil
from dataclasses import replace

import pytest
from PIL import Image

from ppl.batches import PixelFormat
from ppl.datamodules.decoders.pyav import PyAVDecoder
from ppl.datamodules.frame_sampling import AtRate, Linspace, Midpoints, RandomInSegment
from ppl.datamodules.medium_keys import key_of
from ppl.datamodules.processing import Processor
from ppl.datamodules.records import PLACEHOLDER, ByteRange, MediumRef, Record, Turn
from ppl.datamodules.watchdog import GuardedDecoder


def shown(ref, processor, *others):
    """The medium as it would be in a batch."""
    media = [ref, *others]
    record = Record("r", [Turn("user", PLACEHOLDER * len(media)), Turn("assistant", "red")], media)
    return processor.encode(record).media[0]


def key(ref, processor, kind):
    return key_of(ref, kind, processor.inputs, processor.num_frames, processor.sampler, processor.decoder)


def frame_folder(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(6):
        Image.new("RGB", (12, 12), (40 * number, 0, 0)).save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize("sampler", [None, AtRate(5.0)])
def test_a_key_is_known_before_decoding(input_spec, media_folder, tmp_path, sampler):
    processor = Processor(input_spec, num_frames=4, sampler=sampler)
    photo = MediumRef("image", str(media_folder / "wide.png"))
    other = MediumRef("image", str(media_folder / "red.png"))
    inside = replace(photo, inside=ByteRange(0, (media_folder / "wide.png").stat().st_size))
    for ref in (
        MediumRef("video", str(media_folder / "clip.mp4"), 0.5, 1.5),
        MediumRef("video", str(media_folder / "clip.mp4"), num_frames=3),
        MediumRef("video", str(frame_folder(tmp_path)), fps=2.0),
    ):
        assert key(ref, processor, "video") == shown(ref, processor).key != ""
    assert key(photo, processor, "image") == shown(photo, processor).key == key(inside, processor, "image")
    assert key(photo, processor, "multi_image") == shown(photo, processor, other).key


def test_whatever_changes_the_pixels_changes_the_key(input_spec, media_folder):
    class Other(PyAVDecoder):
        pass

    def by(inputs=input_spec, num_frames=4, sampler=None, decoder=None):
        return Processor(inputs, num_frames=num_frames, sampler=sampler, decoder=decoder)

    clip = MediumRef("video", str(media_folder / "clip.mp4"))
    bars = replace(input_spec, pixels=PixelFormat(video="pad"))
    grey = replace(input_spec, pixels=PixelFormat(video="pad", bars=(127, 127, 127)))
    keys = [
        key(clip, by(), "video"),
        key(replace(clip, start=1.0), by(), "video"),
        key(replace(clip, end=1.0), by(), "video"),
        key(replace(clip, num_frames=2), by(), "video"),
        key(clip, by(num_frames=3), "video"),
        key(clip, by(sampler=Linspace()), "video"),
        key(clip, by(sampler=AtRate(1.0)), "video"),
        key(clip, by(sampler=AtRate(2.0)), "video"),
        key(clip, by(decoder=Other()), "video"),
        key(clip, by(replace(input_spec, image_size=4)), "video"),
        key(clip, by(bars), "video"),
        key(clip, by(grey), "video"),
    ]
    photo = MediumRef("image", str(media_folder / "wide.png"))
    tiled = replace(input_spec, image_grid_pinpoints=((8, 8),))
    closest = replace(input_spec, pixels=PixelFormat(tiling="closest_aspect"))
    keys += [key(photo, by(inputs), "image") for inputs in (input_spec, tiled, closest)]
    keys += [key(photo, by(), "multi_image"), key(replace(photo, path=str(media_folder / "red.png")), by(), "image")]
    assert len(set(keys)) == len(keys)
    assert key(replace(clip, num_frames=4), by(sampler=Midpoints()), "video") == keys[0]
    guarded = [key(clip, by(decoder=GuardedDecoder(decoder)), "video") for decoder in (None, Other())]
    assert guarded == [keys[0], key(clip, by(decoder=Other()), "video")]


def test_a_key_is_of_the_content_and_not_of_the_place(input_spec, media_folder, tmp_path):
    processor = Processor(input_spec, num_frames=4)
    copy = tmp_path / "another name.mp4"
    shutil.copy(media_folder / "clip.mp4", copy)
    before = key(MediumRef("video", str(copy)), processor, "video")
    assert before == key(MediumRef("video", str(media_folder / "clip.mp4")), processor, "video")
    copy.write_bytes(copy.read_bytes() + b"\0")
    assert key(MediumRef("video", str(copy)), processor, "video") != before


def test_only_chosen_frames_count(input_spec, tmp_path):
    folder, processor = frame_folder(tmp_path), Processor(input_spec, num_frames=2)  # of 0 … 5, frames 1 and 4
    ref = MediumRef("video", str(folder))
    before = key(ref, processor, "video")
    shutil.copy(folder / "2.png", folder / "0.png")
    assert key(ref, processor, "video") == before
    shutil.copy(folder / "2.png", folder / "1.png")
    assert key(ref, processor, "video") != before


def test_random_frames_are_refused_where_features_are_kept(input_spec):
    message = r"feature cache with frames drawn at random \(RandomInSegment.*set model.cache: null, or data.sampler"
    with pytest.raises(ValueError, match=message):
        Processor(replace(input_spec, caches_features=True), sampler=RandomInSegment())
    Processor(replace(input_spec, caches_features=True), sampler=Linspace())
    Processor(input_spec, sampler=RandomInSegment())
