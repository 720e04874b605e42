"""Which annotation files are looked at: those named on the command line, or those of a recipe, or its benchmark."""

from __future__ import annotations

from argparse import ArgumentError
from collections.abc import Callable, Sequence
from typing import NamedTuple

from jsonargparse import ArgumentParser
from lightning import LightningDataModule

from ppl.datamodules.benchmark import BenchmarkDataModule
from ppl.datamodules.benchmark_samples import media_record
from ppl.datamodules.instruction import InstructionDataModule
from ppl.datamodules.mixture import Source, expand
from ppl.datamodules.preference import PreferenceDataModule, check_pair
from ppl.datamodules.records import Record, check_answered
from ppl.evaluation.benchmark import missing_files, read_items
from ppl.planning.recipe import Recipe, read_recipe
from ppl.recipe_files import check_recipes


class Part(NamedTuple):
    """One annotation file, or one source of a mixture."""

    name: str
    source: Source
    check: Callable[[Record], None] | None = None
    """Raises ValueError for a record that the recipe cannot learn from; None: it is not known what it is for."""
    row_length: int | None = None
    """Most positions of its samples, where they have to fit into packed rows."""
    records: tuple[Record, ...] | None = None
    """Questions of a benchmark, which has read its files itself; None: they are to be read from ``source``."""
    lacking: tuple[tuple[Record, str], ...] = ()
    """Of them, files beside the media that prompts are made from, and that are not there: subtitles."""


class Selection(NamedTuple):
    """What is looked at."""

    parts: list[Part]
    media_root: str | None
    data: InstructionDataModule | BenchmarkDataModule | None = None
    """The recipe's, to read media as it does."""
    recipe: Recipe | None = None


def select_files(files: Sequence[str], media_root: str | None = None) -> Selection:
    """Look at files; LLaVA-NeXT's list of datasets counts as the files in it.

    Args:
        files: Annotation files, with braces or stars perhaps several.
        media_root: Folder that relative media paths start from; None means each file's own.

    Raises:
        FileNotFoundError: A file is missing.
    """
    return Selection([Part(source.path, source) for file in files for source in expand(Source(file))], media_root)


def select_recipe(words: Sequence[str]) -> Selection:
    """Look at every split of a recipe's data, each source whole, whatever its sampling; or at a benchmark's questions.

    Args:
        words: Recipe, overlays and overrides, as ``ppl fit`` takes them.

    Raises:
        ValueError: The recipe is not accepted, or its data are neither annotation files nor a benchmark.
        FileNotFoundError: A file is missing.
    """
    check_recipes(words)
    recipe = read_recipe(words, needs_model=False)
    data = _instantiate(recipe)
    if isinstance(data, BenchmarkDataModule):
        return Selection([_questions(data)], None, data, recipe)
    if not recipe.model:
        raise ValueError("got a recipe without a model, expected the one whose lengths are told: add its -c or --model")
    splits = {split: [Source(file) for file in files] for split, files in data.files.items()}
    splits["train"] = data.sources or splits["train"]
    check = check_pair if isinstance(data, PreferenceDataModule) else check_answered
    parts = [
        Part(
            f"{split}: {source.path}",
            source,
            None if split == "predict" else check,
            data.loading.row_length if split == "train" else None,
        )
        for split, sources in splits.items()
        for listed in sources
        for source in expand(listed)
    ]
    if not parts:
        raise ValueError(
            "got a recipe whose data name no annotation file, expected at least one; name it as for `ppl fit`: "
            "--data.train_files='[train.jsonl]'"
        )
    return Selection(parts, data.media_root, data, recipe)


def _questions(data: BenchmarkDataModule) -> Part:
    name, items = data.benchmark.name, read_items(data.benchmark)
    records = {item.id: media_record(item, f"{name}: question {item.id}") for item in items}
    if not records:
        raise ValueError(f"got {name} without a question, expected some; are its files whole?")
    lacking = tuple((records[item.id], file) for item, file in missing_files(items, data.protocol))
    return Part(name, Source(name), records=tuple(records.values()), lacking=lacking)


def _instantiate(recipe: Recipe) -> InstructionDataModule | BenchmarkDataModule:
    data = None
    if recipe.data:
        parser = ArgumentParser(exit_on_error=False)
        parser.add_subclass_arguments(LightningDataModule, "data")
        try:
            data = parser.instantiate(parser.parse_object({"data": recipe.data}))["data"]
        except ArgumentError as error:
            raise ValueError(str(error)) from error
    if not isinstance(data, InstructionDataModule | BenchmarkDataModule):
        raise ValueError(
            f"got {type(data).__name__} as data, expected annotation files: "
            "ppl.datamodules.instruction.InstructionDataModule, or a benchmark's; other data bring no records of their "
            "own to look at"
        )
    return data
