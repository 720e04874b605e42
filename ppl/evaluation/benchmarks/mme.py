"""MME (Fu et al. 2023, arXiv:2306.13394): two yes-or-no questions about each of 1187 images, in 14 categories.

There is no ``paper`` protocol: PPLLaVA's authors released no code for image benchmarks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ppl.evaluation.benchmark import Benchmark, readable, required
from ppl.evaluation.image_files import image
from ppl.evaluation.instructions import SHORT_ANSWER
from ppl.evaluation.items import Item, Shown
from ppl.evaluation.protocol import Mark, Protocol, Score, Unit
from ppl.evaluation.rows import Row
from ppl.evaluation.yes_no import beginning_yes_no, word_yes_no

_ACCURACIES = {"accuracy": 100.0, "accuracy_plus": 100.0}
"""Of questions, and of images both of whose questions are answered right."""
_CATEGORIES = {
    "perception": [
        "existence",
        "count",
        "position",
        "color",
        "posters",
        "celebrity",
        "scene",
        "landmark",
        "artwork",
        "OCR",
    ],
    "cognition": ["commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning"],
}
_IMAGES = (".jpg", ".png")


class MME(Benchmark):
    """MME's release version.

    Args:
        root: Folder ``MME_Benchmark_release_version`` with a folder a category: an image and a text file of the same
            name side by side, or in ``images/`` and ``questions_answers_YN/``.
    """

    def __init__(self, root: str) -> None:
        self.root = root

    @property
    def name(self) -> str:
        """Its name."""
        return "mme"

    def items(self) -> list[Item]:
        """Read the questions.

        Raises:
            ValueError: A text file has no image, or does not hold two questions.
        """
        root = Path(self.root)
        names = [name for names in _CATEGORIES.values() for name in names]
        folders = [required(root / name, f"MME's category {name}") for name in names]
        return [item for folder in folders for item in _category(folder)]


def _category(folder: Path) -> Iterator[Item]:
    apart = folder / "questions_answers_YN"
    texts, images = (apart, folder / "images") if apart.is_dir() else (folder, folder)
    for file in sorted(texts.glob("*.txt")):
        found = [path for path in (images / f"{file.stem}{ending}" for ending in _IMAGES) if path.is_file()]
        with readable(file, "two of MME's questions"):
            lines = [line.split("\t") for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        if len(found) != 1 or len(lines) != 2 or any(len(line) != 2 for line in lines):
            msg = f"got {file} with {len(lines)} lines and {len(found)} images, expected 2 questions and 1 image"
            raise ValueError(f"{msg}: fetch MME's release version again")
        kind = next(kind for kind, names in _CATEGORIES.items() if folder.name in names)
        for number, (question, answer) in enumerate(lines):
            yield Item(
                id=f"{folder.name}/{found[0].name}/{number}",
                media=image(found[0]),
                question=question.strip(),
                answer=answer.strip().lower().replace(".", ""),
                cluster=f"{folder.name}/{found[0].name}",
                groups={"category": folder.name, "kind": kind},
            )


class Official(Protocol):
    """As its authors ask and mark it.

    Args:
        first_letters: Look for the words in the first four letters, as they do ("None" and "I know" are no); otherwise
            the first word is one of them.
    """

    name = "official"
    version = "1"
    source = "BradyFU/Awesome-Multimodal-Large-Language-Models dd29509: tools/eval_tool.zip, its calculation.py"
    metrics = _ACCURACIES
    max_new_tokens = 16

    def __init__(self, first_letters: bool = True) -> None:
        self.first_letters = first_letters

    def prompt(self, item: Item, shown: Sequence[Shown]) -> str:
        """The question, which asks for yes or no."""
        return item.question

    def guide(self, item: Item) -> str:
        """The question without its request."""
        return item.question.replace(" Please answer yes or no.", "")

    def units(self, rows: Sequence[Row]) -> list[tuple[Row, ...]]:
        """The two questions about an image."""
        pairs: dict[str, list[Row]] = {}
        for row in rows:
            pairs.setdefault(row.cluster, []).append(row)
        return [tuple(pair) for pair in pairs.values()]

    def is_whole(self, rows: tuple[Row, ...]) -> bool:
        """Whether both were answered."""
        return len(rows) == 2

    def mark(self, rows: tuple[Row, ...], replies: Sequence[str | None]) -> Mark:
        """The share of an image's questions that is right, and whether both are."""
        said = [beginning_yes_no(row.text) if self.first_letters else word_yes_no(row.text) for row in rows]
        parsed = "; ".join(filter(None, said)) if None not in said else None
        right = sum(word == row.answer for word, row in zip(said, rows, strict=True))
        return Mark({"accuracy": right / 2, "accuracy_plus": float(right == 2)}, parsed)

    def extra_scores(self, units: Sequence[Unit]) -> list[Score]:
        """The two accuracies of a category added, at most 200; their sums over perception and over cognition."""
        found = []
        for kind, names in _CATEGORIES.items():
            scores = [score for score in (_category_score(name, units) for name in names) if score is not None]
            found += scores
            if scores:
                value, size = sum(score.value or 0.0 for score in scores), sum(score.size for score in scores)
                found.append(Score(f"{kind}_score", "overall", value, size))
        return found


class Lmms(Official):
    """As lmms-eval asks and marks it: another request ends the question; its marks are the authors'.

    Args:
        first_letters: Look for the words in the first four letters, as it does; otherwise the first word is one.
    """

    name = "lmms"
    version = "1"
    source = "EvolvingLMMs-Lab/lmms-eval 0.7.3: tasks/mme, mme"

    def prompt(self, item: Item, shown: Sequence[Shown]) -> str:
        """The question with another request."""
        return f"{self.guide(item)}\n{SHORT_ANSWER}"


def _category_score(category: str, units: Sequence[Unit]) -> Score | None:
    marks = [unit.mark.values for unit in units if unit.rows[0].groups["category"] == category]
    if not marks:
        return None
    both = sum((values["accuracy"] or 0.0) + (values["accuracy_plus"] or 0.0) for values in marks)
    return Score("score", f"category={category}", 100 * both / len(marks), len(marks))
