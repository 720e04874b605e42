"""Find the keys of a recipe that nothing accepts, and the parts that are not there, with their file and full path.

jsonargparse says which key it refuses, not where: this looks through the files once parsing has failed.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import importlib
import inspect
import os
import re
import typing
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from lightning import Trainer

_ROOT_KEYS = ("seed_everything", "trainer", "model", "data")


class _Place(NamedTuple):
    """Where in which file the search stands."""

    file: Path
    path: str

    def to(self, key: str | int) -> _Place:
        """The place of a member."""
        if isinstance(key, int):
            return self._replace(path=f"{self.path}[{key}]")
        return self._replace(path=f"{self.path}.{key}" if self.path else key)


def misspelt_keys(words: Sequence[str], refusal: str) -> list[str]:
    """Describe each key that nothing accepts and each part that is no file, a line each; empty: it is something else.

    Args:
        words: The command line, subcommand first.
        refusal: What the parser said.
    """
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    options.add_argument("-c", "--config", action="append", default=[])
    known, rest = options.parse_known_args(words[1:])
    found: list[str] = []
    roots = [*_ROOT_KEYS, *inspect.signature(getattr(Trainer, words[0])).parameters]
    for name in known.config:
        recipe = _read(Path(name))
        if isinstance(recipe, dict):
            place = _Place(Path(name), "")
            found += _strangers(recipe, place, roots)
            for key in recipe.keys() & set(roots):
                found += _walk(recipe[key], place.to(key), Trainer if key == "trainer" else None)
    refused = re.findall(r"[Oo]ption '([\w.]+)'", refusal)
    for word in rest:
        name, _, value = word.removeprefix("--").partition("=")
        found += _walk(value, _Place(Path(), name), None)
        if word.startswith("--") and any(name.endswith(f".{key}") for key in refused):
            found.append(f"command line: {name} is not accepted")
    return found


def _walk(value: Any, place: _Place, kind: Callable[..., Any] | None) -> Iterator[str]:  # noqa: ANN401  any YAML
    if isinstance(value, str) and value.endswith((".yaml", ".yml")):
        part = Path(os.path.normpath(place.file.parent / value))
        if part.is_file():
            yield from _walk(_read(part), place._replace(file=part), kind)
        elif not (place.path.endswith("]") or Path(value).is_file()):  # lists are of data, and from the present folder
            file = "command line" if place.file == Path() else place.file
            hint = "`ppl recipes --copy-to .` writes ppl's own here"
            yield f"{file}: {place.path} names {part}, which is no file; {hint}"
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _walk(item, place.to(index), None)
    elif isinstance(value, dict) and "class_path" in value:
        yield from _strangers(value, place, ("class_path", "init_args", "dict_kwargs"))
        yield from _members(value.get("init_args"), place.to("init_args"), _imported(value["class_path"]))
    elif isinstance(value, dict) and kind is not None:
        yield from _members(value, place, kind)


def _members(members: Any, place: _Place, kind: Callable[..., Any] | None) -> Iterator[str]:  # noqa: ANN401
    if not isinstance(members, dict) or kind is None:
        return
    parameters = inspect.signature(kind).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    yield from _strangers(members, place, parameters)
    hints = typing.get_type_hints(kind.__init__ if inspect.isclass(kind) else kind)
    for name in members.keys() & parameters.keys():
        group = hints.get(name)
        is_group = inspect.isclass(group) and dataclasses.is_dataclass(group)
        yield from _walk(members[name], place.to(name), group if is_group else None)


def _strangers(members: Collection[str], place: _Place, accepted: Collection[str]) -> Iterator[str]:
    for key in members:
        if key not in accepted:
            similar = difflib.get_close_matches(str(key), accepted, n=1)
            hint = f"; did you mean {similar[0]}?" if similar else f", expected one of {', '.join(accepted)}"
            yield f"{place.file}: {place.to(str(key)).path} is not accepted{hint}"


def _read(file: Path) -> Any:  # noqa: ANN401
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None


def _imported(class_path: Any) -> Callable[..., Any] | None:  # noqa: ANN401
    module, _, name = str(class_path).rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        return None
