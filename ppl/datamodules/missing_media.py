"""Media that records name and that are not there: looked for by name, nothing is opened."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from ppl.datamodules.records import Record
from ppl.datamodules.storage.opening import is_url

_NUM_SHOWN = 10


def missing_media(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Find the files and folders that are not on disk; each is looked for once.

    Args:
        records: Whose media to look for; what lies inside a tar or a table was found with its record.

    Returns:
        The records of each missing path; both in the order of the records.
    """
    is_there: dict[str, bool] = {}
    missing: dict[str, list[Record]] = {}
    for record in records:
        for path in dict.fromkeys(path for medium in record.media for path in medium.files):
            if path not in is_there:
                # Not Path's, which raises where a folder may not be read; what is elsewhere is told when it is fetched.
                is_there[path] = is_url(path) or os.path.exists(path)  # noqa: PTH110
            if not is_there[path]:
                missing.setdefault(path, []).append(record)
    return missing


def check_media_exist(records: Sequence[Record]) -> None:
    """Raise FileNotFoundError listing the media that are not on disk.

    Args:
        records: Whose media to look for.
    """
    missing = missing_media(records)
    if missing:
        count = len({path for record in records for medium in record.media for path in medium.files})
        shown = "\n".join(f"  {path} ({of[0].origin})" for path, of in list(missing.items())[:_NUM_SHOWN])
        rest = f"\n  and {len(missing) - _NUM_SHOWN} more" if len(missing) > _NUM_SHOWN else ""
        raise FileNotFoundError(
            f"got {len(missing)} of {count} media files missing, expected all of them; "
            f"set media_root or fix the paths:\n{shown}{rest}"
        )
