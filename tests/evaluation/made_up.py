"""Benchmarks in their authors' layouts, with made-up questions about made-up videos."""

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def make_video(path, seconds=2, rate=10, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 48, 48, "yuv420p"
        for _ in range(seconds * rate):
            frame = av.VideoFrame.from_ndarray(random.integers(0, 255, (48, 48, 3), dtype=np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def make_videomme(root, videos=2, questions=3):
    rows = []
    for video in range(videos):
        make_video(root / "data" / f"v{video}.mp4", seed=video)
        rows += [
            {
                "video_id": f"{video:03}",
                "duration": ("short", "long")[video % 2],
                "domain": "Knowledge",
                "sub_category": "Maths",
                "videoID": f"v{video}",
                "question_id": f"{video:03}-{number}",
                "task_type": "Counting",
                "question": f"How many squares are there in {number}?",
                "options": ["A. One.", "B. Two.", "C. Three.", "D. Four."],
                "answer": "ABCD"[number % 4],
            }
            for number in range(questions)
        ]
    (root / "videomme").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), root / "videomme" / "test-00000-of-00001.parquet")
    return root
