"""What can be seen of the entry point without lmms-eval; the rest is `make lmms-parity`."""

import subprocess
import sys
import tomllib
from types import ModuleType

import pytest

from ppl.extras import MissingExtraError
from ppl.integrations.lmms_eval import manifest
from tests.test_architecture import ROOT


def test_without_lmms_eval_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "lmms_eval", None)
    with pytest.raises(MissingExtraError, match=r"without lmms_eval.*, .* 'ppl\[lmms\]' in an environment of its own"):
        manifest()


def test_the_entry_point_leads_to_a_manifest_of_classes_that_are_there(monkeypatch):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["lmms_eval.models"] == {"ppl": f"{manifest.__module__}:{manifest.__name__}"}
    stand_in = ModuleType("lmms_eval.models.registry_v2")
    stand_in.ModelManifest = dict  # ty: ignore
    for name in ("lmms_eval", "lmms_eval.models"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, stand_in.__name__, stand_in)
    made = manifest()
    assert made["model_id"] == "ppl"
    for path in (made["chat_class_path"], made["simple_class_path"]):
        module, _, name = path.rpartition(".")
        source = (ROOT / f"{module.replace('.', '/')}.py").read_text()
        assert f"class {name}(" in source


def test_the_manifest_s_module_imports_no_torch():
    probe = "import sys, ppl.integrations.lmms_eval; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "False"
