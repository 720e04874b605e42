"""Name weights that do not fit; in few lines: layers that differ in their number only are one name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

MOST = 20
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


def grouped(keys: Iterable[str]) -> list[str]:
    """Join names that differ in their first number: ``layers.0.bias``, ``layers.1.bias`` -> ``layers.{0-1}.bias``."""
    groups: dict[str, list[int]] = {}
    for key in keys:
        number = _NUMBER.search(key)
        if number is None:
            groups[key] = []
        else:
            groups.setdefault(f"{key[: number.start()]}\0{key[number.end() :]}", []).append(int(number[0]))
    return sorted(pattern.replace("\0", _ranges(numbers)) for pattern, numbers in groups.items())


def listing(keys: Iterable[str]) -> str:
    """At most 20 grouped names, and how many keys there are in all."""
    keys = list(keys)
    names = grouped(keys)
    shown = ", ".join(names[:MOST])
    if len(names) > MOST:
        shown += f", … ({len(keys)} keys in all)"
    return shown


def mismatches(where: str, stored: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """A line for each tensor that one of two has alone, or that is of another shape.

    Args:
        where: What the stored ones are in: ``file``.
        stored: What is there, by name.
        own: What the model has.
    """
    lines = [f"missing from the {where}: {name}" for name in sorted(own.keys() - stored.keys())]
    lines += [f"unknown to the model: {name}" for name in sorted(stored.keys() - own.keys())]
    for name in sorted(stored.keys() & own.keys()):
        got, want = tuple(stored[name].shape), tuple(own[name].shape)
        if got != want:
            lines.append(f"{name}: the {where} has shape {got}, the model {want}")
    return lines


def _ranges(numbers: list[int]) -> str:
    """``7`` for one, ``{0-31}`` for consecutive ones, ``{0-3,5}`` for others."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    text = ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
    return text if len(numbers) == 1 else f"{{{text}}}"
