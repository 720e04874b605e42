"""Errors in words for a visitor: what can be done about them, without paths of the server or tracebacks."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from ppl.serving.http.errors import ApiError, told
from ppl.serving.http.store import FullStoreError
from ppl.serving.line import FullError

_LOG = logging.getLogger(__name__)


def in_words(error: BaseException, names: Mapping[str, str]) -> str:
    """Say what a visitor may know of an error; one that is not the visitor's doing goes to the log.

    Args:
        error: Whatever was raised.
        names: What to call the visitor's files, by their paths.
    """
    if isinstance(error, FullError):
        return "As many questions wait as may; ask again in a moment."
    if isinstance(error, FullStoreError):
        return "There is no room for another clip now; try again in a few minutes, or with a smaller one."
    if isinstance(error, TimeoutError):
        return "There was no time left for this; try again in a moment."
    known = told(error, names)
    if isinstance(known, ApiError):
        return known.message
    _LOG.error("what a visitor asked for failed", exc_info=error)
    return "This failed, for a reason that the server has logged; try again, or with another clip."
