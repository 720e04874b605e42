import importlib
import json
import pkgutil
import sys

import pytest

from ppl.evaluation import benchmarks
from ppl.evaluation.benchmarks import mathvista, videomme
from ppl.evaluation.protocol import Protocol, rebuild
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


def test_a_title_names_the_arguments_that_are_not_the_default():
    """Read back from a row too, where the default's tuple is a list."""
    for protocol, title in (
        (Choice(), "official-1"),
        (Weighted(), "official-1"),
        (Weighted((2, 1)), "official-1 (weights=[2, 1])"),
        (videomme.Paper(subtitles=True, array_options=False), "paper-1 (subtitles=True, array_options=False)"),
        (mathvista.Official(), "official-1"),
    ):
        assert protocol.title == rebuild(protocol.identity()).title == title


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"class_path": "ppl.evaluation.gone.Lmms"}, r"got answers of protocol ppl.evaluation.gone.Lmms, which is not"),
        ({"class_path": "tests.evaluation.made_up_runs.Gone"}, r"expected a subclass of Protocol"),
        ({"class_path": "json.loads"}, r"expected a subclass of Protocol"),
        ({"init_args": {"dropped": 1}}, r"with other arguments than it takes .*dropped"),
        (
            {"class_path": "ppl.evaluation.protocol.Protocol"},
            r"got answers of Protocol 1, expected its present version",
        ),
        ({"init_args": {"dropped": 1}, "version": "0"}, r"got answers of Choice 0, expected its present version 1"),
    ],
)
def test_a_protocol_that_is_gone_or_has_changed_is_told(changed, message):
    with pytest.raises(ValueError, match=message + r".*answer again"):
        rebuild(Choice().identity() | changed)


def test_no_row_has_a_module_imported(tmp_path, monkeypatch):
    """A stranger's row names what is on the path; what was imported already, for whatever reason, may be meant."""
    (tmp_path / "strange.py").write_text("raise SystemExit('was run')\n")
    monkeypatch.syspath_prepend(tmp_path)
    for path, module in (("strange.Official", "strange"), ("ppl.cli.Official", "ppl.cli"), ("Official", "MODULE")):
        monkeypatch.delitem(sys.modules, module, raising=False)
        with pytest.raises(ValueError, match=rf"got answers of protocol {path}, .* say so by --import {module}$"):
            rebuild(Choice().identity() | {"class_path": path})
    assert not {"strange", "ppl.cli"} & set(sys.modules)


def shipped():
    for module in pkgutil.iter_modules(benchmarks.__path__, f"{benchmarks.__name__}."):
        for kind in vars(importlib.import_module(module.name)).values():
            if isinstance(kind, type) and issubclass(kind, Protocol) and not kind.__name__.startswith("_"):
                yield kind


def test_every_protocol_has_a_version_of_its_own_beside_its_source_s():
    kinds = {kind for kind in shipped() if kind is not Protocol}
    assert len(kinds) == 41
    for kind in kinds:
        assert kind.version.isdigit(), kind
        assert kind.name in ("paper", "lmms", "official", "llava"), kind
        assert (kind.name == "lmms") == ("lmms-eval 0.7.3: tasks/" in kind.source), kind
