import json

import pytest

from ppl.evaluation.protocol import rebuild
from tests.evaluation.made_up_runs import Choice


class Weighted(Choice):
    def __init__(self, weights=(1, 2)):
        self.weights = weights
        self._sum = sum(weights)


def test_an_identity_is_what_its_row_reads_back():
    """A tuple is a list in JSON, and the answers of a killed run are compared with the run that goes on."""
    identity = Weighted().identity()
    assert identity == json.loads(json.dumps(identity))
    assert identity["init_args"] == {"weights": [1, 2]}
    assert rebuild(identity).identity() == identity


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"class_path": "ppl.gone.Protocol"}, r"got answers of protocol ppl.gone.Protocol, which is not there"),
        ({"class_path": "Choice"}, r"got answers of protocol Choice, which is not there"),
        ({"class_path": "tests.evaluation.made_up_runs.Gone"}, r"expected a subclass of Protocol"),
        ({"class_path": "json.loads"}, r"expected a subclass of Protocol"),
        ({"init_args": {"dropped": 1}}, r"with other arguments than it takes .*dropped"),
        ({"init_args": {"dropped": 1}, "version": "0"}, r"got answers of Choice 0, expected its present version 1"),
    ],
)
def test_a_protocol_that_is_gone_or_has_changed_is_told(changed, message):
    with pytest.raises(ValueError, match=message + r".*answer again"):
        rebuild(Choice().identity() | changed)
