"""The three forms agree with each other and with a copy made by hand, at the start and after training."""

import copy

import pytest
import torch
from lightning.pytorch.callbacks import ProgressBar

from ppl.datamodules.synthetic.preference import SyntheticPreferenceDataModule
from ppl.modules.dpo import DPOModule
from ppl.modules.lora import LoRA
from ppl.modules.pair_scores import score_pairs
from ppl.modules.parts import LearningRates
from ppl.modules.poolers.weighted import WeightedPooler
from ppl.modules.preference_losses import Sigmoid
from ppl.modules.reference import AdaptersOff, FrozenCopy, Precomputed
from tests.modules.pairs import pair_batch
from tests.modules.tiny import tiny_aligner, tiny_backbone, video
from tests.quiet import quiet_trainer

pytestmark = pytest.mark.filterwarnings("ignore:Attribute '.*' (is an instance of `nn.Module`|removed from hparams)")

ADAPTERS = LearningRates(None, None, None, None, None, None, 1e-2, None)
WHOLE = LearningRates(1e-3, None, None, None, None, None, None, None)
EVERYTHING = LearningRates(1e-3, 1e-3, 1e-3, None, None, None, None, 1e-3)


def pairs(batches=2):
    return SyntheticPreferenceDataModule(3, 4 * batches, 2, 4, 4, batch_size=4)


def module_with(reference, rates, lora=None):
    torch.manual_seed(0)
    return DPOModule(
        tiny_backbone(), WeightedPooler(), Sigmoid(), reference, aligner=tiny_aligner(), learning_rates=rates, lora=lora
    )


def trainer_for(folder, steps=2, **options):
    return quiet_trainer(folder, max_epochs=None, max_steps=steps, num_sanity_val_steps=0, **options)


def batch_of(data, module):
    data.attach(module.input_spec)
    data.setup("fit")
    return next(iter(data.val_dataloader()))


@pytest.mark.parametrize("reference", [AdaptersOff, FrozenCopy, Precomputed])
def test_each_is_the_model_of_the_beginning(reference, tmp_path):
    module, data = module_with(reference(), ADAPTERS, LoRA(4, 8.0)), pairs()
    before = copy.deepcopy(module.model).eval()
    trainer_for(tmp_path).fit(module, data)
    batch = batch_of(pairs(), module)
    with torch.no_grad():
        scores = score_pairs(module.model, batch)
        expected = score_pairs(before, batch).logprobs.total
    assert (scores.logprobs.total - expected).abs().min() > 1e-3, "it has not learnt"
    got = module.reference.totals(module, batch, scores.visual)
    # the same sums; Precomputed's were made in batches of other lengths, and kept to the last bit
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-4)
    assert all(p.requires_grad == (".lora_" in name) for name, p in module.model.named_parameters())


@pytest.mark.parametrize("rates", [WHOLE, EVERYTHING], ids=["language model", "everything"])
def test_a_whole_model_by_copy_and_beforehand(rates, tmp_path):
    """A projector that trains makes other visual tokens than it made at first: the reference must not see those."""
    found = []
    for reference in (FrozenCopy(), Precomputed(str(tmp_path / "kept"))):
        module = module_with(reference, rates)
        before = copy.deepcopy(module.model).eval()
        trainer_for(tmp_path).fit(module, pairs())
        batch = batch_of(pairs(), module)
        with torch.no_grad():
            visual = score_pairs(module.model, batch).visual
            expected = score_pairs(before, batch).logprobs.total
        found.append(module.reference.totals(module, batch, visual))
        torch.testing.assert_close(found[-1], expected, rtol=1e-5, atol=1e-4)
        names = dict(module.named_parameters()).keys() | module.state_dict().keys()
        assert not any("copy" in name for name in names), "the copy would be in checkpoints"


def test_a_copy_shares_what_is_frozen(tmp_path):
    module = module_with(FrozenCopy(), ADAPTERS, LoRA(4, 8.0))
    trainer_for(tmp_path, steps=1).fit(module, pairs())
    own = dict(module.model.named_parameters())
    for name, parameter in module.reference._copy.named_parameters():
        assert (parameter is own[name]) == (".lora_" not in name), name


def test_adapters_off_is_refused_where_the_reference_would_change(tmp_path):
    everything = LearningRates(None, 1e-3, None, None, None, None, 1e-3, None)
    with pytest.raises(ValueError, match=r"trains \['projector', 'lora'\], expected adapters and nothing else"):
        trainer_for(tmp_path).fit(module_with(AdaptersOff(), everything, LoRA(4, 8.0)), pairs())
    with pytest.raises(ValueError, match=r"trains \['language_model'\]"):
        trainer_for(tmp_path).fit(module_with(AdaptersOff(), WHOLE), pairs())
    module = module_with(AdaptersOff(), ADAPTERS, LoRA(4, 8.0))
    with torch.no_grad():
        [p.fill_(0.1) for name, p in module.named_parameters() if ".lora_B." in name]
    with pytest.raises(ValueError, match="adapters that change the model from the start"):
        trainer_for(tmp_path).fit(module, pairs())


class Calls:
    """Counts the batches that pass the language model."""

    def __init__(self, module):
        self.number = 0
        module.model.backbone.language_model.register_forward_hook(self.count)

    def count(self, *_):
        self.number += 1


def test_beforehand_goes_on_where_it_died_and_is_computed_once(tmp_path):
    def prepared(folder, **options):
        module = module_with(Precomputed(str(tmp_path / folder)), ADAPTERS if options else WHOLE, **options)
        calls = Calls(module)
        trainer_for(tmp_path, steps=0).fit(module, pairs(batches=3))
        return calls.number

    assert prepared("kept") == 3 + 1  # batches to train on, and to validate
    assert prepared("kept") == 0
    assert prepared("kept", lora=LoRA(4, 8.0)) == 0, "new adapters change nothing"
    (file,) = (tmp_path / "kept").rglob("*.jsonl")
    lines = file.read_text()
    file.write_text("".join(lines.splitlines(keepends=True)[:4]) + '["torn')
    assert prepared("kept") == 3
    assert sorted(file.read_text().replace('["torn\n', "").splitlines()) == sorted(lines.splitlines())


def test_beforehand_shows_its_progress(tmp_path, capsys):
    class Bar(ProgressBar):
        pass

    module = module_with(Precomputed(), WHOLE)
    trainer = trainer_for(tmp_path, steps=1)
    trainer.callbacks.append(Bar())
    trainer.fit(module, pairs())
    assert "log-probabilities of the reference" in capsys.readouterr().out
    assert list((tmp_path / "reference").rglob("0.jsonl"))


def test_beforehand_needs_pairs_that_stay_the_same(tmp_path):
    module = module_with(Precomputed(), WHOLE)
    module.trainer = trainer_for(tmp_path)
    with pytest.raises(ValueError, match="got reference Precomputed with NoneType, expected a data module of pref"):
        module.setup("fit")
    trainer_for(tmp_path, steps=1).fit(module, pairs())
    batch = pair_batch(module.model, ([video(4, "another")], "what is it ?", "red", "blue"))
    with pytest.raises(ValueError, match=r"got the pairs \['pair 0'\], whose reference was not computed"):
        module.reference.totals(module, batch, torch.empty(0, 8))
