"""How a benchmark is asked and marked: a value with a name and a version, since the same texts score differently."""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

from ppl.evaluation.items import Item, Shown
from ppl.evaluation.judge import Request
from ppl.evaluation.rows import Row

_OWN = "ppl.evaluation."

FrameRule = Literal["midpoints", "segments", "linspace", "starts"]
"""``midpoints``: of equal segments, in time. ``segments``: the same, rounded to frame numbers as PPLLaVA's evaluation
does. ``linspace``: evenly from the first frame to the last, as lmms-eval's models do. ``starts``: the first frames of
equal segments, no more than one a second, as LongVideoBench's loader."""


class Frames(NamedTuple):
    """What is sampled of each video of a question."""

    number: int
    rule: FrameRule = "midpoints"
    apart: bool = False
    """Show each frame as an image of its own, with a mark of its own in the prompt, so that text can stand between."""


class Mark(NamedTuple):
    """What an answer, or several that are marked together, are worth."""

    values: Mapping[str, float | None]
    """By metric; None: does not count in its mean."""
    parsed: str | None
    """What was read from the answer; None: nothing could be."""


class Score(NamedTuple):
    """One number of a report."""

    metric: str
    group: str
    """``overall``, or ``duration=short``."""
    value: float | None
    """None: nothing to take a mean of."""
    size: int
    """Units in its denominator."""
    low: float | None = None
    high: float | None = None
    """Ends of its 95 % interval; None where a metric is no mean of marks."""


class Unit(NamedTuple):
    """Answers that are marked together, and their mark."""

    rows: tuple[Row, ...]
    mark: Mark
    requests: tuple[Request, ...] = ()
    """What a judge was to be asked."""
    replies: tuple[str | None, ...] = ()


class Protocol(ABC):
    """One way to ask and to mark a benchmark.

    A subclass's ``__init__`` keeps every argument as an attribute of the same name: a quirk that it keeps for the sake
    of comparison is an argument with the sane form as its other value.
    """

    name: ClassVar[str]
    """``paper``: PPLLaVA's own code. ``lmms``: lmms-eval. ``official``: the benchmark's authors.
    ``llava``: LLaVA's scripts."""
    version: ClassVar[str]
    """Ours, a whole number: changes whenever a prompt, its frames or a mark does. Of the code that it follows,
    ``source`` says the version."""
    source: ClassVar[str]
    """Where it was read, with a version or a commit."""
    metrics: ClassVar[Mapping[str, float]]
    """What marks hold, and the factor of its mean in reports: 100 for a percentage."""
    max_new_tokens: int = 16
    answer_prefix: str = ""
    """Begins the model's turn, which it continues; not part of its text."""

    def system(self, item: Item) -> str | None:
        """What the system turn says; None: what the chat template says."""
        del item

    def frames(self, item: Item) -> Frames:
        """What is sampled of its videos."""
        del item
        return Frames(32)

    @abstractmethod
    def prompt(self, item: Item, shown: Sequence[Shown]) -> str:
        """What the user's turn says; media come before it unless it holds a mark for each.

        Args:
            item: The question.
            shown: What is shown of each of its media: subtitles are those of the sampled frames.
        """

    def guide(self, item: Item) -> str:
        """What the pooling is guided by: the question, and neither instructions nor subtitles."""
        return item.question

    def files(self, item: Item) -> tuple[str, ...]:
        """Paths that `prompt` reads, subtitles for one: looked for before anything is asked."""
        del item
        return ()

    def units(self, rows: Sequence[Row]) -> list[tuple[Row, ...]]:
        """Group the answers that are marked together; each on its own."""
        return [(row,) for row in rows]

    def is_whole(self, rows: tuple[Row, ...]) -> bool:
        """Whether a unit has all its answers; one that lacks some is not marked, and its answers do not cover."""
        del rows
        return True

    def requests(self, rows: tuple[Row, ...]) -> tuple[Request, ...]:
        """What a judge is asked about a unit; nothing, if none is needed."""
        del rows
        return ()

    @abstractmethod
    def mark(self, rows: tuple[Row, ...], replies: Sequence[str | None]) -> Mark:
        """Mark a unit.

        Args:
            rows: Answers that are marked together.
            replies: A judge's, one for each request; None: none was to be had.
        """

    def extra_scores(self, units: Sequence[Unit]) -> list[Score]:
        """Numbers that are not means of marks: an F1, a sum over categories, a mean of means."""
        del units
        return []

    def submission(self, rows: Sequence[Row]) -> Mapping[str, str]:
        """What the server of the benchmark's authors takes: file name -> text; empty where answers are public.

        Args:
            rows: Every answer; ``row.benchmark`` tells a test split from another.
        """
        del rows
        return {}

    @property
    def title(self) -> str:
        """Name, version and the arguments that are not the default: ``paper-1 (subtitles=True)``."""
        defaults = {name: known.default for name, known in inspect.signature(type(self)).parameters.items()}
        arguments = self.identity()["init_args"].items()
        changed = [f"{name}={value}" for name, value in arguments if not _alike(value, defaults.get(name))]
        return f"{self.name}-{self.version}" + (f" ({', '.join(changed)})" if changed else "")

    def identity(self) -> dict[str, Any]:
        """What `rebuild` takes, and the version."""
        kind = type(self)
        kept = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        arguments = json.loads(json.dumps(kept))  # as rows hold them, whose lists may have been tuples
        return {"class_path": f"{kind.__module__}.{kind.__qualname__}", "init_args": arguments, "version": self.version}


def _alike(value: object, default: object) -> bool:
    """Whether JSON holds both in the same way: a list may have been a tuple, and some arguments have no default."""
    return json.dumps(value) == json.dumps(default, default=repr)


def rebuild(identity: Mapping[str, Any]) -> Protocol:
    """Build the protocol that a row was asked by: one of ppl's own, or of a module that is imported already.

    No row makes Python import anything else, for rows may be a stranger's.

    Raises:
        ValueError: There is no such protocol any more, it is of another version, or its module is not imported.
    """
    again = "answer again, or score with the version of ppl that answered"
    path, version = str(identity.get("class_path")), identity.get("version")
    kind = _protocol_class(path, again)
    if getattr(kind, "version", None) != version:
        msg = (
            f"got answers of {kind.__name__} {version}, expected its present version "
            f"{getattr(kind, 'version', None)}: its prompts or marks have changed since; {again}"
        )
        raise ValueError(msg)
    try:
        return kind(**identity["init_args"])
    except (KeyError, TypeError) as error:
        msg = f"got answers of {path} with other arguments than it takes ({error}); {again}"
        raise ValueError(msg) from error


def _protocol_class(path: str, again: str) -> type[Protocol]:
    module, _, name = path.rpartition(".")
    if module.startswith(_OWN):
        try:
            importlib.import_module(module)
        except ImportError as error:
            msg = f"got answers of protocol {path}, which is not there ({error}); {again}"
            raise ValueError(msg) from error
    if module not in sys.modules:
        msg = (
            f"got answers of protocol {path}, expected one of {_OWN}benchmarks: a module that answers name is not "
            f"imported for that; if it is yours or you trust it, say so by --import {module or 'MODULE'}"
        )
        raise ValueError(msg)
    kind = getattr(sys.modules[module], name, None)
    if not (isinstance(kind, type) and issubclass(kind, Protocol)):
        msg = f"got answers of protocol {path}, expected a subclass of {Protocol.__name__}; {again}"
        raise ValueError(msg)
    return kind
