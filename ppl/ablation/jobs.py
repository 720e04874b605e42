"""From an ablation's YAML to the processes that it needs: which words, in which folder, depending on what."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

from ppl.ablation.cell import Job
from ppl.ablation.spec import Ablation, RowSpec

_ANYWHERE = Path("ablation")
"""Stands for the ablation's folder in what a cell depends on: it may be moved, or be given in another way."""
_SUFFIX = re.compile(r"\.ya?ml$")
_FILE = re.compile(r"[^\s'\"=:{}\[\],]+\.ya?ml")


def preparations(ablation: Ablation, root: Path, seed: int) -> list[Job]:
    """The runs that the cells of one seed build on, in order; each depends on those before it."""
    jobs: list[Job] = []
    for run in ablation.prepare:
        folder = f"prepare/{run.name}/seed_{seed}"
        words = ["fit", *_fill(run.arguments, ablation, root, seed), f"--trainer.default_root_dir={root / folder}"]
        depends = [*_fill(run.arguments, ablation, _ANYWHERE, seed), *(job.fingerprint for job in jobs)]
        jobs.append(Job(run.name, seed, str(root), folder, words, [], fingerprint(depends)))
    return jobs


def cells(ablation: Ablation, root: Path, seed: int, extra: list[str]) -> list[Job]:
    """One job per row, in the rows' order; ``extra`` are words of the command line for every cell."""
    prepared = [job.fingerprint for job in preparations(ablation, root, seed)]
    jobs = []
    for name, row in ablation.all_rows().items():
        fit, test = _words(ablation, row, root, seed, extra)
        here = f"--trainer.default_root_dir={root / name}/seed_{seed}"
        depends = [word for words in _words(ablation, row, _ANYWHERE, seed, extra) for word in words]
        digest = fingerprint([*depends, *prepared])
        folder = f"{name}/seed_{seed}"
        jobs.append(Job(name, seed, str(root), folder, ["fit", *fit, here], ["test", *fit, here, *test], digest))
    return jobs


def fingerprint(words: list[str]) -> str:
    """Digest of words and of the text of every YAML file that they name, or that those name in turn."""
    digest = hashlib.sha256(json.dumps(words).encode())
    seen: set[Path] = set()
    for word in words:
        for file in _named_files(word, Path(), seen):
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _words(ablation: Ablation, row: RowSpec, root: Path, seed: int, extra: list[str]) -> tuple[list[str], list[str]]:
    """Words of training, and those that testing has besides."""
    fit = ["-c", ablation.base, *ablation.arguments, *row.arguments, *extra]
    return _fill(fit, ablation, root, seed), _fill(row.test_arguments, ablation, root, seed)


def _fill(words: list[str], ablation: Ablation, root: Path, seed: int) -> list[str]:
    """Put the seed and the preparations' folders where ``{...}`` stands for them; YAML braces stay."""
    values = {"seed": str(seed), "root": str(root)}
    values |= {run.name: str(root / f"prepare/{run.name}/seed_{seed}") for run in ablation.prepare}
    for name, value in values.items():
        words = [word.replace("{" + name + "}", value) for word in words]
    return words


def _named_files(text: str, folder: Path, seen: set[Path]) -> Iterator[Path]:
    whole = text.partition("=")[2] or text  # a path may hold blanks
    for name in [*_FILE.findall(text), *([whole] if _SUFFIX.search(whole) else [])]:
        file = (folder / name).resolve()
        if file.is_file() and file not in seen:
            seen.add(file)
            yield file
            yield from _named_files(file.read_text(), file.parent, seen)
