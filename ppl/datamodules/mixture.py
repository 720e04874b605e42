"""Mix annotation files: which part of each is trained on, and how often.

The list of sources with a sampling each is LLaVA-NeXT's idea (its ``llava/train/train.py`` and
``scripts/video/train/exp.yaml``), and its YAML files are read as they are.
"""

from __future__ import annotations

import dataclasses
import math
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from glob import glob, has_magic
from itertools import islice
from pathlib import Path
from typing import Any

import fsspec
import yaml
from braceexpand import braceexpand

from ppl.datamodules.annotations import iter_records
from ppl.datamodules.records import Record, problem
from ppl.datamodules.storage.opening import is_url, joined, open_bytes, read_head

_SAMPLING = re.compile(r"(first|end|random):([1-9]\d*)(%?)")
_LLAVA_YAML = re.compile(rb"\A(\xef\xbb\xbf)?(\s*(#[^\n]*)?\n)*datasets\s*:")


@dataclass(frozen=True)
class Source:
    """One part of a mixture.

    Args:
        path: An annotation file, on disk or a URL that fsspec knows; with braces (``{0..9}.tar``) or stars, several. Or
            a YAML with ``datasets`` in LLaVA-NeXT's form.
        media_root: Folder that relative media paths start from. A relative one starts from the data module's, if it has
            one. None means the data module's, or else the annotation file's own folder.
        sampling: ``all``; or ``first``, ``end`` or ``random`` with a number of records or a share, as in ``first:100``
            and ``random:20%``. ``random`` is the same in every epoch, and for the same seed.
        weight: This source's share of an epoch, relative to the others', which need one too: the source with the most
            records for its weight is read once, the others more often. None: as many as there are.
        num_frames: Frames sampled from its videos; None means as many as of the others.
        repeat: How often an epoch has each record, without weights.
        split: Have Hugging Face ``datasets`` load this split of ``path``.
        streaming: With a split, read it as it arrives; its media must be files on disk.
    """

    path: str
    media_root: str | None = None
    sampling: str = "all"
    weight: float | None = None
    num_frames: int | None = None
    repeat: int = 1
    split: str | None = None
    streaming: bool = False

    def __post_init__(self) -> None:
        if self.sampling != "all" and not _SAMPLING.fullmatch(self.sampling):
            expected = "all, first:N, end:N or random:N, where N is a number or a share such as 20%"
            raise problem(f"source {self.path}", f"sampling {self.sampling!r}", expected, "fix sampling")
        numbers = [number for number in (self.repeat, self.num_frames, self.weight) if number is not None]
        if not all(0 < number < math.inf for number in numbers):
            got = f"repeat {self.repeat}, num_frames {self.num_frames}, weight {self.weight}"
            raise problem(f"source {self.path}", got, "each above 0", "fix the one that is not")


def read_mixture(sources: Sequence[Source], media_root: str | None = None, seed: int = 0) -> list[Record]:
    """Read the records of an epoch; the same arguments give the same ones in the same order.

    Args:
        sources: To mix.
        media_root: For sources without their own.
        seed: Of what ``random`` chooses.

    Raises:
        ValueError: A fault in a record that is wanted, a sampling that asks for more than there is, weights of some
            sources only.
        FileNotFoundError: An annotation file is missing.
    """
    leaves = [leaf for source in sources for leaf in expand(source)]
    parts = [sample(_sound(iter_source(leaf, media_root)), leaf, seed) for leaf in leaves]
    counts = _counts(leaves, [len(part) for part in parts])
    mixed: list[Record] = []
    for part, count in zip(parts, counts, strict=True):
        whole, rest = divmod(count, len(part))
        mixed += part * whole + random.Random(seed).sample(part, rest)
    return mixed


def expand(source: Source) -> list[Source]:
    """Replace a YAML of LLaVA-NeXT's by the sources it lists; any other source stays as it is.

    Relative paths in it start from its own folder.

    Args:
        source: Perhaps such a YAML.
    """
    if source.split is not None or has_magic(source.path) or "{" in source.path:
        return [source]
    if not _LLAVA_YAML.match(read_head(source.path) or b""):
        return [source]
    with open_bytes(source.path) as file:
        try:
            listed = yaml.safe_load(file)["datasets"]
        except yaml.YAMLError as error:
            raise problem(source.path, f"broken YAML ({error})", "LLaVA-NeXT's list of datasets", "fix it") from error
    if not isinstance(listed, list) or not listed:
        raise problem(source.path, f"{listed!r:.80} as datasets", "a list of at least one", "list the files")
    if (source.sampling, source.weight) != ("all", None):
        raise problem(source.path, "sampling or weight for a list of datasets", "them in the list", "write them there")
    return [_llava_source(entry, source, number) for number, entry in enumerate(listed)]


def _llava_source(entry: Any, source: Source, number: int) -> Source:  # noqa: ANN401
    origin = f"{source.path}, dataset {number}"
    if not isinstance(entry, dict) or not isinstance(entry.get("json_path"), str):
        raise problem(origin, f"{entry!r:.80}", "json_path, perhaps sampling_strategy", "name the file")
    strange = sorted(entry.keys() - {"json_path", "sampling_strategy"})
    if strange:
        raise problem(origin, f"the keys {strange}", "json_path and sampling_strategy", "use data.sources for the rest")
    path, sampling = entry["json_path"], entry.get("sampling_strategy", "all")
    if not isinstance(sampling, str):
        raise problem(origin, f"sampling_strategy {sampling!r}", "a text such as first:5", "write it so")
    if not is_url(path) and not is_url(source.path):
        path = str(Path(source.path).parent / path)
    return dataclasses.replace(source, path=path, sampling=sampling)


def iter_source(source: Source, media_root: str | None = None) -> Iterator[Record | ValueError]:
    """Read every record of a source's files, whatever its sampling; bad ones are errors in their place.

    Args:
        source: After `expand`.
        media_root: For sources without their own.

    Raises:
        FileNotFoundError: An annotation file is missing.
    """
    root = source.media_root or media_root
    if source.media_root is not None and media_root is not None:
        root = joined(media_root, source.media_root)
    for path in _paths(source):
        for found in iter_records(path, root, split=source.split, streaming=source.streaming):
            if isinstance(found, Record) and source.num_frames is not None:
                media = [dataclasses.replace(ref, num_frames=source.num_frames) for ref in found.media]
                yield dataclasses.replace(found, media=media)
            else:
                yield found


def _paths(source: Source) -> list[str]:
    if source.split is not None:
        return [source.path]
    paths: list[str] = []
    for path in braceexpand(source.path):
        found = [path]
        if has_magic(path) and is_url(path):
            system, _ = fsspec.url_to_fs(path)
            found = sorted(system.unstrip_protocol(name) for name in system.glob(path))
        elif has_magic(path) and not Path(path).exists():
            found = sorted(glob(path, recursive=True))  # noqa: PTH207  Path.glob wants its folder apart
        if not found:
            msg = f"source {path}: got no such files, expected at least one; fix the path"
            raise FileNotFoundError(msg)
        paths += found
    return paths


def _sound(found: Iterator[Record | ValueError]) -> Iterator[Record]:
    for record in found:
        if isinstance(record, ValueError):
            raise record
        yield record


def sample(records: Iterator[Record], source: Source, seed: int) -> list[Record]:
    """Take the part of a source that its sampling names, in the file's order; shares are rounded up.

    Args:
        records: All; ``first:N`` reads no more than it takes.
        source: With the sampling.
        seed: Of what ``random`` chooses.

    Raises:
        ValueError: There are fewer records.
    """
    parsed = _SAMPLING.fullmatch(source.sampling)
    if parsed is None:
        return list(records)
    how, number, percent = parsed[1], int(parsed[2]), parsed[3]
    found = list(islice(records, number)) if how == "first" and not percent else list(records)
    count = math.ceil(len(found) * number / 100) if percent else number
    if not 1 <= count <= len(found):
        got = f"sampling {source.sampling!r} of {len(found)} records"
        raise problem(f"source {source.path}", got, "at least one and at most all", "change sampling")
    if how == "random":
        return [found[index] for index in sorted(random.Random(seed).sample(range(len(found)), count))]
    return found[-count:] if how == "end" else found[:count]


def _counts(sources: Sequence[Source], lengths: Sequence[int]) -> list[int]:
    """How many records of each source an epoch has."""
    weights = [source.weight for source in sources if source.weight is not None]
    if not weights:
        return [length * source.repeat for source, length in zip(sources, lengths, strict=True)]
    if len(weights) < len(sources) or any(source.repeat > 1 for source in sources):
        got = f"a weight on {len(weights)} of {len(sources)} sources, or repeat beside weights"
        raise problem("sources", got, "weights on all of them and no repeat, or no weights", "make them alike")
    most = max(length / weight for length, weight in zip(lengths, weights, strict=True))
    return [max(round(most * weight), length) for weight, length in zip(weights, lengths, strict=True)]
