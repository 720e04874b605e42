from pathlib import Path

import pytest

from ppl.serving.http.settings import Caps, Settings


@pytest.mark.parametrize("field", ["media", "frames", "tokens"])
def test_a_limit_of_nothing_is_refused(field):
    with pytest.raises(ValueError, match=f"got {field}=0, expected more than 0"):
        Caps(**{field: 0})


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"token": ""}, "got an empty token"),
        ({"media_root": Path("nowhere")}, "got media root 'nowhere', expected a folder"),
        ({"uploads_gib": 0.0}, "got uploads_gib=0.0"),
        ({"stall_seconds": -1.0}, "got stall_seconds=-1.0"),
    ],
)
def test_settings_that_cannot_be_are_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        Settings("m", **fields)


def test_a_body_s_size_is_in_mebibytes():
    assert Caps(body_mib=0.5).body_bytes == 2**19
