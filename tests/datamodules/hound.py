"""A file in the exact form of LLaVA-Hound's ``sft_dpo_17k.jsonl``, with its folders of ten frames."""

import json

from PIL import Image


def write_hound(folder, number=4):
    """Write pairs and frames; frame i of every video is of the grey level 20 i. Returns the file."""
    lines = []
    for video in range(number):
        frames = folder / "all_frames" / f"v_{video}"
        frames.mkdir(parents=True)
        for index in range(10):
            Image.new("RGB", (40, 30), (20 * index,) * 3).save(frames / f"c01_{index + 1:04d}.jpeg", quality=95)
        lines.append(
            {
                "id": f"v_{video}_{video + 1}",
                "video": f"v_{video}",
                "prompt": "<video>\nwhat colour is the square ?",
                "answer": "the square is red",
                "chosen": "red",
                "rejected": "blue , and there is a ring in the video",
                "chosen_score": 5,
                "rejected_score": 2,
            }
        )
    file = folder / "sft_dpo_17k.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    return file
