"""From an ablation's YAML to the processes that it needs: which words, in which folder, depending on what."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

from ppl.ablation.cell import Job
from ppl.ablation.spec import Ablation, RowSpec

_FILE = re.compile(r"[^\s'\"=:{}\[\],]+\.ya?ml")


def preparations(ablation: Ablation, root: Path, seed: int, extra: list[str]) -> list[Job]:
    """The runs that the cells of one seed build on, in order."""
    jobs = []
    for run in ablation.prepare:
        folder = f"prepare/{run.name}/seed_{seed}"
        words = ["fit", *_fill(run.arguments, ablation, root, seed), f"--trainer.default_root_dir={root / folder}"]
        jobs.append(Job(run.name, seed, str(root), folder, words, [], fingerprint([*words, *extra])))
    return jobs


def cells(ablation: Ablation, root: Path, seed: int, extra: list[str]) -> list[Job]:
    """One job per row, in the rows' order; ``extra`` are words of the command line for every cell."""
    base = [_cell(ablation, name, row, root, seed, extra) for name, row in ablation.all_rows().items()]
    prepared = [job.fingerprint for job in preparations(ablation, root, seed, extra)]
    return [
        Job(j.row, j.seed, j.root, j.folder, j.fit, j.test, fingerprint([*j.fit, *j.test, *prepared])) for j in base
    ]


def fingerprint(words: list[str]) -> str:
    """Digest of words and of the text of every YAML file that they name, or that those name in turn."""
    digest = hashlib.sha256(json.dumps(words).encode())
    seen: set[Path] = set()
    for word in words:
        for file in _named_files(word, Path(), seen):
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _cell(ablation: Ablation, name: str, row: RowSpec, root: Path, seed: int, extra: list[str]) -> Job:
    folder = f"{name}/seed_{seed}"
    words = ["-c", ablation.base, *ablation.arguments, *row.arguments]
    words = [*_fill(words, ablation, root, seed), *extra, f"--trainer.default_root_dir={root / folder}"]
    test = ["test", *words, *_fill(row.test_arguments, ablation, root, seed)]
    return Job(name, seed, str(root), folder, ["fit", *words], test, "")


def _fill(words: list[str], ablation: Ablation, root: Path, seed: int) -> list[str]:
    """Put the seed and the preparations' folders where ``{...}`` stands for them; YAML braces stay."""
    values = {"seed": str(seed), "root": str(root)}
    values |= {run.name: str(root / f"prepare/{run.name}/seed_{seed}") for run in ablation.prepare}
    for name, value in values.items():
        words = [word.replace("{" + name + "}", value) for word in words]
    return words


def _named_files(text: str, folder: Path, seen: set[Path]) -> Iterator[Path]:
    for name in _FILE.findall(text):
        file = (folder / name).resolve()
        if file.is_file() and file not in seen:
            seen.add(file)
            yield file
            yield from _named_files(file.read_text(), file.parent, seen)
