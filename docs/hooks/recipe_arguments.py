"""The reference of recipes: every class that one may name, with its arguments, from signatures and docstrings."""

from __future__ import annotations

import inspect
import pkgutil
import typing
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from docstring_parser import parse_from_object
from lightning import LightningDataModule, LightningModule
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.io import CheckpointIO
from lightning.pytorch.strategies import Strategy

INTRODUCTION = """\
# Recipes, key by key

Every class that a recipe may name by `class_path`, and the arguments that `init_args` takes; made from signatures and
docstrings when this site is built. An argument whose type is a class takes that class or any of its kind, as YAML or
as the path of a file; a dataclass is written without `class_path`. How recipes are put together:
[recipes](../recipes/README.md).
"""
PACKAGES = ("modules", "datamodules", "callbacks", "strategies", "saving", "evaluation")
OTHERS = ("ppl.serving.sample_predictions",)
ROOTS = (LightningModule, LightningDataModule, Callback, Logger, Strategy, CheckpointIO)


def recipe_arguments_page() -> str:
    """One section a package, one table a class."""
    sections = [INTRODUCTION]
    package = ""
    kinds = sorted(configurable(), key=lambda kind: (kind.__module__.rpartition(".")[0], kind.__qualname__))
    numbers = Counter(kind.__qualname__ for kind in kinds)
    for kind in kinds:
        own = kind.__module__.rpartition(".")[0]
        if own != package:
            sections.append(f"## {own}\n")
            package = own
        file = kind.__module__.rpartition(".")[2]
        sections.append(
            section(kind, f"{file}.{kind.__qualname__}" if numbers[kind.__qualname__] > 1 else kind.__qualname__)
        )
    return "\n".join(sections)


def configurable() -> set[type]:
    """Classes of `ppl` that a recipe may name: what Lightning takes, and whatever the arguments of those ask for."""
    for name in PACKAGES:
        package = import_module(f"ppl.{name}")
        for module in pkgutil.walk_packages(package.__path__, f"ppl.{name}."):
            import_module(module.name)
    for name in OTHERS:
        import_module(name)
    found: set[type] = set()
    waiting = [kind for root in ROOTS for kind in with_subclasses(root) if is_ours(kind)]
    while waiting:
        kind = waiting.pop()
        asked = hints(kind)
        if kind in found or asked is None:
            continue
        found.add(kind)
        ours = {one for hint in asked.values() for one in classes(hint) if is_ours(one)}
        waiting += [one for each in ours for one in with_subclasses(each) if is_ours(one)]
    return {kind for kind in found if not inspect.isabstract(kind) and not kind.__name__.startswith("_")}


def section(kind: type, heading: str) -> str:
    """What a class is, and its arguments."""
    described = {
        param.arg_name: param.description
        for base in reversed(kind.__mro__)
        if is_ours(base)
        for param in parse_from_object(base).params
    }
    lines = [f"### {heading}\n", f"`{kind.__module__}.{kind.__qualname__}`\n"]
    lines.append(f"{(inspect.getdoc(kind) or '').partition(chr(10) * 2)[0]}\n")
    rows = [
        f"| `{name}` | `{_told(parameter.annotation)}` | {_default(parameter)} | {_line(described.get(name))} |"
        for name, parameter in inspect.signature(kind).parameters.items()
    ]
    if rows:
        lines += ["| argument | type | default | |", "|---|---|---|---|", *rows, ""]
    return "\n".join(lines)


def is_ours(kind: Any) -> bool:  # noqa: ANN401  a class or a function
    """Whether `ppl` defines it."""
    return getattr(kind, "__module__", "").split(".")[0] == "ppl"


def with_subclasses(kind: type) -> Iterator[type]:
    """The class and all below it."""
    yield kind
    for below in kind.__subclasses__():
        yield from with_subclasses(below)


def hints(kind: type) -> dict[str, Any] | None:
    """Types of the constructor's arguments; None if one is known to type checkers only, so that no recipe gives it."""
    if not is_ours(kind.__init__):
        return {}
    try:
        return typing.get_type_hints(kind.__init__)
    except NameError:
        return None


def classes(hint: Any) -> Iterator[type]:  # noqa: ANN401  any type
    """Classes that a type is made of."""
    if inspect.isclass(hint):
        yield hint
    for part in typing.get_args(hint):
        yield from classes(part)


def _told(annotation: Any) -> str:  # noqa: ANN401
    if annotation is inspect.Parameter.empty:
        return ""
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _default(parameter: inspect.Parameter) -> str:
    value = parameter.default
    if value is inspect.Parameter.empty:
        return "required"
    if is_ours(type(value)):
        return "its own"
    return f"`{'null' if value is None else value!r}`"


def _line(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")
