"""What marks answers that no rule can: another model, asked about each."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Request(NamedTuple):
    """What a judge is asked about an answer."""

    system: str
    user: str
    max_tokens: int = 64


def prompt_digest(request: Request) -> str:
    """Tell requests apart in 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(request).encode()).hexdigest()[:16]


class Judge(ABC):
    """Answers requests about answers."""

    @property
    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """What stands beside its scores: ``model`` and what else decides its replies."""

    @abstractmethod
    def ask(self, requests: Sequence[Request]) -> list[str | None]:
        """Replies in the order of the requests; None where none was to be had."""
