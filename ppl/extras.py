"""What is said where a package is needed that only one of ppl's extras brings."""

from __future__ import annotations


class MissingExtraError(ModuleNotFoundError):
    """A package of one of ppl's extras is needed and not there; the command line shows this without a traceback."""


def missing(extra: str, packages: str, wanted: str, more: str = "") -> MissingExtraError:
    """Say which extra to install.

    Args:
        extra: Its name in pyproject.toml.
        packages: What cannot be imported.
        wanted: What needs it: ``a table``.
        more: What else can or must be done, to follow the command.
    """
    return MissingExtraError(
        f"got {wanted} without {packages}, expected the extra {extra}: pip install 'ppl[{extra}]'{more}"
    )
