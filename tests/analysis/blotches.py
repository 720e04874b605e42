"""Real videos whose frames a random CLIP can tell apart."""

import av
import numpy as np


def blotches(count, height=48, width=64, seed=0):
    """Frames of large random blocks of colour."""
    blocks = np.random.default_rng(seed).integers(256, size=(count, height // 16, width // 16, 3), dtype=np.uint8)
    return blocks.repeat(16, axis=1).repeat(16, axis=2)


def write_video(path, frames, fps):
    """Lossless RGB: the frames read are those written."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=fps)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "bgr0"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path
