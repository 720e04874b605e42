from __future__ import annotations

import json
from pathlib import Path

import pytest

TINY = Path(__file__).parents[2] / "recipes/parts/backbones/tiny_llava_next"
SIZE = 8


def count_visual_tokens(info):
    return {"video": 2 * info.num_frames, "image": 5 + info.num_frames, "multi_image": 3}[info.kind]


def tokenize_prompts(prompts):
    import torch

    return torch.tensor([[len(prompt.split()), len(prompt)] for prompt in prompts])


@pytest.fixture(scope="session")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(TINY)


@pytest.fixture(scope="session")
def input_spec(tokenizer):
    """Demands of a model that exists only in these tests."""
    from ppl.batches import InputSpec

    return InputSpec(
        tokenizer=tokenizer,
        image_token="<image>",
        image_size=SIZE,
        grid_size=(2, 2),
        image_grid_pinpoints=((8, 16), (16, 8), (16, 16)),
        num_visual_tokens=count_visual_tokens,
        tokenize_prompts=tokenize_prompts,
        max_length=512,
    )


@pytest.fixture
def decoded(monkeypatch):
    """Count the frames that are decoded: call it for their number so far."""
    from ppl.datamodules import video_stream

    count, decode = 0, video_stream.decode_packet

    def counting(packet):
        nonlocal count
        frames = decode(packet)
        count += len(frames)
        return frames

    monkeypatch.setattr(video_stream, "decode_packet", counting)
    return lambda: count


@pytest.fixture(scope="session")
def media_folder(tmp_path_factory):
    """Hold clip.mp4 (2 s, 32x48) and the images wide.png (16x32), red.png and blue.png."""
    import av
    import numpy as np
    from PIL import Image

    folder = tmp_path_factory.mktemp("media")
    Image.new("RGB", (32, 16), "green").save(folder / "wide.png")
    for colour in ("red", "blue"):
        Image.new("RGB", (10, 12), colour).save(folder / f"{colour}.png")
    with av.open(folder / "clip.mp4", "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for index in range(20):
            pixels = np.full((32, 48, 3), index * 12, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return folder


@pytest.fixture
def write_lines(tmp_path):
    """Write objects as JSON lines and return the file's path."""

    def write(items, name="data.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps(item) + "\n" for item in items))
        return str(path)

    return write


@pytest.fixture(scope="session")
def mixed_items():
    """Return one LLaVA-form item of every kind; relative paths are media_folder's."""

    def item(name, question, answer, **media):
        turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
        return {"id": name, "conversations": turns, "category": name, **media}

    return [
        item("photo", "<image>\nwhat colour is this picture ?", "green", image="wide.png"),
        item("pair", "is <image> or <image> red ?", "the first is red .", image=["red.png", "blue.png"]),
        item("clip", "what appears ?", "a white square", video="clip.mp4"),
        item("words", "is the circle a shape ?", "yes"),
    ]
