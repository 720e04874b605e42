"""TextVQA (Singh et al. 2019, arXiv:1904.08920): 5000 validation questions about text in images, ten answers each.

There is no ``paper`` protocol: PPLLaVA's authors released no code for image benchmarks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ppl.evaluation.benchmark import Benchmark
from ppl.evaluation.choices import ACCURACY
from ppl.evaluation.image_files import image, read_json
from ppl.evaluation.instructions import SHORT_ANSWER
from ppl.evaluation.items import Item, Shown
from ppl.evaluation.protocol import Mark, Protocol
from ppl.evaluation.rows import Row
from ppl.evaluation.vqa_accuracy import textvqa_normal, vqa_accuracy


class TextVQA(Benchmark):
    """TextVQA's validation split.

    Args:
        root: Folder with ``TextVQA_0.5.1_val.json`` and ``train_images/``, where its images are.
        ocr: Read what an OCR system found in each image too, from ``TextVQA_Rosetta_OCR_v0.2_val.json``, for protocols
            that show it.
    """

    def __init__(self, root: str, ocr: bool = False) -> None:
        self.root = root
        self.ocr = ocr

    @property
    def name(self) -> str:
        """Its name."""
        return "textvqa-val"

    def items(self) -> list[Item]:
        """Read the questions."""
        root = Path(self.root)
        rows = read_json(root / "TextVQA_0.5.1_val.json", "TextVQA's questions")["data"]
        found: dict[str, list[str]] = {}
        if self.ocr:
            images = read_json(root / "TextVQA_Rosetta_OCR_v0.2_val.json", "text found in TextVQA's images")["data"]
            found = {row["image_id"]: row["ocr_tokens"] for row in images}
        return [_item(row, found.get(row["image_id"]), root) for row in rows]


def _item(row: Mapping[str, Any], tokens: list[str] | None, root: Path) -> Item:
    return Item(
        id=str(row["question_id"]),
        media=image(root / "train_images" / f"{row['image_id']}.jpg"),
        question=row["question"],
        answers=tuple(row["answers"]),
        cluster=row["image_id"],
        facts={} if tokens is None else {"ocr_tokens": tokens},
    )


class _Marked(Protocol):
    metrics = ACCURACY

    def mark(self, rows: tuple[Row, ...], replies: Sequence[str | None]) -> Mark:
        """VQA accuracy."""
        row = rows[0]
        return Mark({"accuracy": vqa_accuracy(row.text, row.answers, textvqa_normal)}, textvqa_normal(row.text) or None)


class Lmms(_Marked):
    """As lmms-eval asks and marks it, without the text that an OCR system found.

    Args:
        capitalized: Write the question with one capital, its first letter, as it does (NASA becomes nasa).
    """

    name = "lmms"
    version = "1"
    source = "EvolvingLMMs-Lab/lmms-eval 0.7.3: tasks/textvqa, textvqa_val"
    max_new_tokens = 1024
    """Its task gives none; this is what its LLaVA models take then."""

    def __init__(self, capitalized: bool = True) -> None:
        self.capitalized = capitalized

    def prompt(self, item: Item, shown: Sequence[Shown]) -> str:
        """Question and instruction."""
        return f"{item.question.capitalize() if self.capitalized else item.question}\n{SHORT_ANSWER}"


class Llava(_Marked):
    """As LLaVA's and Video-LLaVA's scripts ask and mark it: they show what an OCR system found.

    Args:
        ocr: Show it; the benchmark must read it. Otherwise they would ask as lmms-eval does.
    """

    name = "llava"
    version = "1"
    source = (
        "haotian-liu/LLaVA c121f04: llava/eval/eval_textvqa.py and its question file llava_textvqa_val_v051_ocr.jsonl"
    )
    max_new_tokens = 128

    def __init__(self, ocr: bool = True) -> None:
        self.ocr = ocr

    def prompt(self, item: Item, shown: Sequence[Shown]) -> str:
        """Question, words found in the image, and instruction.

        Raises:
            ValueError: The benchmark did not read them.
        """
        if not self.ocr:
            return f"{item.question}\n{SHORT_ANSWER}"
        if "ocr_tokens" not in item.facts:
            msg = f"got question {item.id} of TextVQA without OCR tokens, expected them: set the benchmark's ocr: true"
            raise ValueError(msg)
        return f"{item.question}\nReference OCR token: {', '.join(item.facts['ocr_tokens'])}\n{SHORT_ANSWER}"
