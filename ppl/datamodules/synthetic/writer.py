"""Write synthetic videos as real H.264 files with a JSONL of questions beside them."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from jaxtyping import UInt8

from ppl.datamodules.synthetic.instruction import SyntheticExample
from ppl.datamodules.synthetic.world import render


def write_video(path: str | Path, frames: UInt8[np.ndarray, "t 3 h w"], *, fps: int = 4, magnify: int = 4) -> None:
    """Encode frames as H.264 in MP4, each pixel as a block of ``magnify`` squared pixels."""
    height, width = magnify * frames.shape[2], magnify * frames.shape[3]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "12", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, fps)
        for index, frame in enumerate(frames):
            blocks = frame.transpose(1, 2, 0).repeat(magnify, axis=0).repeat(magnify, axis=1)
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(blocks), format="rgb24")
            picture.pts = index
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def write_examples(folder: str | Path, examples: list[SyntheticExample], *, fps: int = 4) -> Path:
    """Write each example's video, and ``questions.jsonl`` in the ``messages`` form; returns the JSONL's path."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, (scene, question, _) in enumerate(examples):
        name = f"{number:05d}.mp4"
        write_video(folder / name, render(scene), fps=fps)
        content = [{"type": "video", "video": name}, {"type": "text", "text": question.text}]
        messages = [{"role": "user", "content": content}, {"role": "assistant", "content": question.answer}]
        lines.append(json.dumps({"id": f"{number:05d}", "messages": messages, "category": question.type}))
    annotations = folder / "questions.jsonl"
    annotations.write_text("\n".join(lines) + "\n")
    return annotations
