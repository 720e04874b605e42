"""Errors in OpenAI's shape: what clients are told, and what is kept from them."""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import ppl

_TYPES = {401: "authentication_error", 429: "rate_limit_error"}
_PATH = re.compile(r"(?<![\w.:/])(?:/[^\s/:'\"(),;]+){2,}/?")
_OURS = Path(ppl.__file__).parent


class ApiError(Exception):
    """What a client is told in place of what it asked for.

    Args:
        status: Of HTTP.
        message: What was got, what was expected, what to change.
        param: The field of the request that is meant.
        code: For programs.
        retry_after: Seconds after which another try may succeed.
    """

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.retry_after = retry_after

    @property
    def body(self) -> dict[str, Any]:
        """As OpenAI's clients read it."""
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    @property
    def response(self) -> Response:
        """For ASGI."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.body, self.status, headers)


async def answer_with(request: Request, error: Exception) -> Response:
    """Tell a client about an error; as FastAPI's handlers are called."""
    del request
    if isinstance(error, HTTPException):  # the router's: no such path, another method
        error = ApiError(error.status_code, str(error.detail))
    assert isinstance(error, ApiError), "those are what this handles"
    return error.response


def told(error: BaseException, names: Mapping[str, str]) -> BaseException:
    """Find what a client may know of an error that answering its question raised.

    What our own code says of the user's input is for the user, but for paths; of anything else, the error itself comes
    back, which is for the log.

    Args:
        error: Whatever was raised.
        names: What to call the files of the request, by their paths.
    """
    if isinstance(error, torch.OutOfMemoryError):
        return ApiError(
            503, "the model ran out of memory; ask for fewer frames or a smaller token_budget", retry_after=1
        )
    if isinstance(error, FileNotFoundError) or (isinstance(error, ValueError) and _is_ours(error)):
        return ApiError(400, without_paths("\n".join([str(error), *getattr(error, "__notes__", [])]), names))
    return error


def without_paths(text: str, names: Mapping[str, str]) -> str:
    """Call files by other names, and any other path nothing."""
    for path, name in names.items():
        text = text.replace(path, name)
    return _PATH.sub("(a path)", text)


def _is_ours(error: ValueError) -> bool:
    frames = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(frames) and Path(frames[-1]).is_relative_to(_OURS)
