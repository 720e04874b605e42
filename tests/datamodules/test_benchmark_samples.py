import torch

from ppl.datamodules.benchmark_samples import AskedItems, frames_apart, shown_frames
from ppl.datamodules.media_reading import DecodedMedium
from ppl.datamodules.processing import Processor
from ppl.evaluation.items import MEDIA_MARK, Item, Medium
from ppl.evaluation.protocol import Frames, Mark, Protocol
from tests.evaluation.made_up import make_video


class Apart(Protocol):
    """Text between the frames of a video."""

    name, version, source, metrics = "paper", "1", "here", {"accuracy": 100.0}

    def frames(self, item):
        return Frames(3, "starts", apart=True)

    def prompt(self, item, shown):
        return "\nthen\n".join([MEDIA_MARK for _ in shown[0].times]) + f"\n{item.question}"

    def mark(self, rows, replies):
        return Mark({"accuracy": 1.0}, "A")


def test_frames_can_stand_apart_as_images_with_text_between(input_spec, tmp_path):
    """A video of three seconds at ten a second, of which the frames 0, 10 and 20 are shown."""
    make_video(tmp_path / "v.mp4", seconds=3)
    items = [Item(name, (Medium("video", str(tmp_path / "v.mp4")),), f"what is {name}?") for name in ("it", "that")]
    processor = Processor(input_spec, "plain_v1")
    first, second = AskedItems([items], 2, "made-up", Apart(), processor, "")[0]
    assert [info.kind for info in first.sample.media] == ["multi_image"] * 3
    assert len(first.sample.frames) == 3
    assert list(first.row.frames[0]) == [0, 10, 20]
    assert first.row.prompt == f"{MEDIA_MARK}\nthen\n{MEDIA_MARK}\nthen\n{MEDIA_MARK}\nwhat is it?"
    assert first.row.visual_tokens == second.row.visual_tokens == 3 * 3  # three for each image of several


def test_each_frame_has_a_key_of_its_own_and_none_without_the_video_s():
    frames = torch.arange(2 * 3 * 4 * 4, dtype=torch.uint8).reshape(2, 3, 4, 4)
    known, unknown = (DecodedMedium("video", frames, key, (0.0, 1.0), 2.0, 10.0) for key in ("k", ""))
    apart = frames_apart([known, unknown])
    assert len({medium.key for medium in apart[:2]} - {""}) == 2
    assert {medium.key for medium in apart[2:]} == {""}
    assert torch.equal(torch.cat([medium.frames for medium in apart]), torch.cat([frames, frames]))
    assert shown_frames(known) == ((0, 10), (0.0, 1.0), 2.0, 10.0)
