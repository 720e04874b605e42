"""Keep a judge's replies on disk, so that nobody pays for one twice."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ppl.evaluation.judge import Request


class JudgeCache:
    """Replies by what was asked of whom: the model's name, its parameters, both prompts and the length of the reply.

    A file with a line for each reply, appended and forced to the disk before the reply is used. A line that a crash cut
    is no reply, and is asked for again. Several runs may append to one file; each sees what was there when it began.

    Args:
        file: Made, with its folder, when the first reply is added.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._lock = threading.Lock()
        written = file.read_bytes() if file.exists() else b""
        self._replies = dict(kept for line in written.splitlines() if (kept := _kept(line)))
        self._end_of_cut_line = b"" if not written or written.endswith(b"\n") else b"\n"

    def get(self, identity: Mapping[str, Any], request: Request) -> str | None:
        """The reply to a request; None: it has not been asked."""
        return self._replies.get(request_key(identity, request))

    def add(self, identity: Mapping[str, Any], request: Request, reply: str) -> None:
        """Keep a reply."""
        key = request_key(identity, request)
        line = {"key": key, "judge": dict(identity), "request": request._asdict(), "reply": reply}
        with self._lock:
            self._replies[key] = reply
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("ab") as stream:
                stream.write(self._end_of_cut_line + json.dumps(line, ensure_ascii=False).encode() + b"\n")
                stream.flush()
                os.fsync(stream.fileno())
            self._end_of_cut_line = b""


def request_key(identity: Mapping[str, Any], request: Request) -> str:
    """Tell requests apart: all that decides the reply, and nothing that does not."""
    said = json.dumps([dict(identity), request._asdict()], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()


def _kept(line: bytes) -> tuple[str, str] | None:
    try:
        values = json.loads(line)
    except ValueError:  # cut by a crash
        return None
    whole = isinstance(values, dict) and isinstance(values.get("key"), str) and isinstance(values.get("reply"), str)
    return (values["key"], values["reply"]) if whole else None
