import pytest
import torch

from ppl import checkpoints
from ppl.exporting.adapters import Adapters
from ppl.exporting.export import export
from tests.exporting.tiny_runs import base, fit
from tests.modules.tiny import make_batch, video


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two runs upon one base, of different ranks and data, and one of another pooler."""
    folder = tmp_path_factory.mktemp("adapters")
    source = base(folder)
    options = {
        "a": ("--model.lora={rank: 4, alpha: 8.0}", "--model.learning_rates.lora=0.01"),
        "b": ("--model.lora={rank: 2, alpha: 8.0, dora: true}", "--model.learning_rates.lora=0.02"),
        "other": ("--model.lora={rank: 4, alpha: 8.0}", "--model.pooler.temperature=0.5"),
    }
    for name, words in options.items():
        _, path = fit(source, folder / f"run_{name}", lora=words)
        export(path, folder / name)
    return {name: folder / name for name in options}


@torch.no_grad()
def logits(module):
    torch.manual_seed(0)
    return module.model(make_batch(module.model, ([video(4)], "what colour is the square ?", "red")))


def test_each_answers_as_alone(folders):
    """Bit by bit, projector and aligner included, in any order."""
    alone = {name: logits(checkpoints.load(folders[name])) for name in ("a", "b")}
    assert not torch.allclose(alone["a"], alone["b"], atol=1e-2)
    adapters = Adapters(folders["a"])
    adapters.add("b", folders["b"])
    shared = adapters.module.model.backbone.hf.lm_head.weight.data_ptr()
    for name, expected in (("default", "a"), ("b", "b"), ("default", "a"), ("b", "b")):
        assert torch.equal(logits(adapters.use(name)), alone[expected])
    assert adapters.module.model.backbone.hf.lm_head.weight.data_ptr() == shared


def test_what_does_not_go_together_is_refused(folders):
    adapters = Adapters(folders["a"])
    with pytest.raises(ValueError, match="has another pooler than the first folder"):
        adapters.add("other", folders["other"])
    with pytest.raises(ValueError, match=r"got the name 'default' for .*, expected a word that is none of default"):
        adapters.add("default", folders["b"])
    with pytest.raises(ValueError, match="got the adapter 'b', expected one of default: add it first"):
        adapters.use("b")
