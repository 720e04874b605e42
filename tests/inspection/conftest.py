from __future__ import annotations

import json

import av
import numpy as np
import pytest
from PIL import Image


def write_clip(path, num_frames=20, rate=10):
    """Noise, which no codec makes small: a file that is cut at 60 % lacks about as many frames."""
    noise = np.random.default_rng(0).integers(0, 255, (num_frames, 48, 64, 3), dtype=np.uint8)
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for pixels in noise:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture(scope="session")
def media(tmp_path_factory):
    """Hold media that are well, and some that are not: cut.mp4, zero.mp4, text.mp4, broken.png."""
    folder = tmp_path_factory.mktemp("media")
    write_clip(folder / "a.mp4")
    write_clip(folder / "b.mp4", num_frames=15, rate=5)
    data = (folder / "a.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(data[: len(data) * 6 // 10])
    (folder / "zero.mp4").touch()
    (folder / "text.mp4").write_text("no video")
    (folder / "broken.png").write_bytes(b"no image")
    (folder / "frames").mkdir()
    for number in range(6):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"frames/{number}.png")
    for name in ("red", "blue"):
        Image.new("RGB", (32, 16), name).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def write(tmp_path):
    """Write items as JSON lines, strings as they are; return the file's path."""

    def write(items, name="data.jsonl"):
        lines = [item if isinstance(item, str) else json.dumps(item) for item in items]
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines))
        return str(tmp_path / name)

    return write


def llava(question="what happens ?", answer="a goal .", **more):
    return {"conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}], **more}


@pytest.fixture
def sound():
    """One item of every modality, two of one video."""
    return [
        llava(),
        llava(image="red.png"),
        llava("is <image> or <image> red ?", image=["red.png", "blue.png"]),
        llava(video="a.mp4", id="clip"),
        llava(video="a.mp4"),
        llava(video="frames", fps=2),
    ]


@pytest.fixture
def broken():
    """Items of which each has one thing wrong."""
    return [
        llava(video="cut.mp4"),
        llava(video="zero.mp4"),
        llava(video="gone.mp4"),
        llava(video="text.mp4"),
        llava(image="broken.png"),
        llava(video="a.mp4", start=50),
        llava("<image> <image> ?", image="red.png"),
        "{broken",
    ]
