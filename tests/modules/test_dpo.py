import pytest
import torch

from ppl.batches import BLANK
from ppl.functional.preference import ipo_loss, sigmoid_loss
from ppl.modules.dpo import DPOModule
from ppl.modules.parts import LearningRates
from ppl.modules.poolers.average import AveragePooler
from ppl.modules.preference_losses import IPO, ORPO, Sigmoid, SimPO
from ppl.modules.reference import FrozenCopy, Reference
from tests.modules.pairs import pair_batch
from tests.modules.test_pair_scores import media, one_by_one
from tests.modules.test_reference import module_with, pairs, trainer_for
from tests.modules.tiny import snapshot, tiny_backbone, unchanged

pytestmark = pytest.mark.filterwarnings("ignore:Attribute '.*' (is an instance of `nn.Module`|removed from hparams)")


class Given(Reference):
    """A reference of known log-probabilities, that counts how often it is asked."""

    def __init__(self):
        self.asked = 0

    def prepare(self, module):
        pass

    def totals(self, module, batch, visual):
        self.asked += 1
        return torch.arange(len(batch["input_ids"])) - 20.0


def unpooled(loss, reference, **options):
    module = DPOModule(tiny_backbone(), AveragePooler((1, 2, 2), None), loss, reference, **options).eval()
    module.logged = {}
    module.log = lambda name, value, **_: module.logged.update({name: value})
    module.log_dict = lambda values, **_: module.logged.update(values)
    return module


def test_the_step_is_the_loss_of_scores_and_logs_them():
    module = unpooled(Sigmoid(0.1), Given())
    rows = media()
    batch = pair_batch(module.model, *rows)
    loss = module.training_step(batch, 0)
    with torch.no_grad():
        totals = one_by_one(module.model, rows)
    scores = totals - torch.arange(6) + 20
    close = {"rtol": 1e-5, "atol": 1e-4}  # as the log-probabilities
    torch.testing.assert_close(loss, sigmoid_loss(scores[:3], scores[3:], 0.1).mean(), **close)
    expected = {
        "train/loss": loss,
        "train/rewards/chosen": 0.1 * scores[:3].mean(),
        "train/rewards/rejected": 0.1 * scores[3:].mean(),
        "train/rewards/margins": 0.1 * (scores[:3] - scores[3:]).mean(),
        "train/rewards/accuracies": (scores[:3] > scores[3:]).float().mean(),
        "train/logps/chosen": totals[:3].mean(),
        "train/logps/rejected": totals[3:].mean(),
    }
    assert module.logged.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(module.logged[name], value, **close)
    module.validation_step(batch, 0)
    module.on_validation_epoch_end()
    for name, value in expected.items():
        assert module.logged[name.replace("train", "val")] == pytest.approx(value.item(), rel=1e-5, abs=1e-4)


def test_pairs_that_fill_up_a_share_count_nowhere_in_a_validation():
    module = unpooled(Sigmoid(0.1), Given(), sft_weight=0.5)
    rows = media()
    batch = pair_batch(module.model, *rows)
    module.validation_step({**batch, "ids": ["first", BLANK, "third"]}, 0)
    module.validation_step({**batch, "ids": [BLANK] * 3}, 1)
    module.on_validation_epoch_end()
    with torch.no_grad():
        totals = one_by_one(module.model, rows)
    scores = totals - torch.arange(6) + 20
    counts = (batch["labels"] != -100).sum(dim=1)[[0, 2]]
    loss = sigmoid_loss(scores[[0, 2]], scores[[3, 5]], 0.1).mean() - 0.5 * totals[[0, 2]].sum() / counts.sum()
    assert module.logged["val/loss"] == pytest.approx(loss.item(), rel=1e-5, abs=1e-4)
    assert module.logged["val/logps/rejected"] == pytest.approx(totals[[3, 5]].mean().item(), rel=1e-5)
    module.validation_step(batch, 0)
    module.on_validation_epoch_end()
    assert module.logged["val/logps/rejected"] == pytest.approx(totals[3:].mean().item(), rel=1e-5), "it starts over"


def test_scores_by_token_and_the_fine_tuning_term():
    module = unpooled(IPO(0.1), Given(), sft_weight=0.5)
    rows = media()
    batch = pair_batch(module.model, *rows)
    loss = module.training_step(batch, 0)
    with torch.no_grad():
        totals = one_by_one(module.model, rows)
    counts = (batch["labels"] != -100).sum(dim=1)
    scores = (totals - torch.arange(6) + 20) / counts
    expected = ipo_loss(scores[:3], scores[3:], 0.1).mean() - 0.5 * totals[:3].sum() / counts[:3].sum()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("loss", [SimPO(), ORPO()])
def test_losses_without_reference_never_have_one(loss):
    module = unpooled(loss, None)
    module.setup("fit")
    assert module.training_step(pair_batch(module.model, *media()), 0).isfinite()
    with pytest.raises(ValueError, match=f"got a reference with {type(loss).__name__}, expected none"):
        unpooled(loss, FrozenCopy())
    with pytest.raises(ValueError, match="got no reference with Sigmoid, expected one"):
        unpooled(Sigmoid(), None)


def test_only_the_language_model_trains_by_default():
    module = unpooled(Sigmoid(), FrozenCopy())
    assert [part.name for part in module.parts if part.learning_rate] == ["language_model"]


def test_pairs_are_learnt(tmp_path):
    module = module_with(FrozenCopy(), LearningRates(1e-3, None, None, None, None, None, None, None))
    frozen = [p for p in module.model.parameters() if not p.requires_grad]
    before = snapshot(frozen)
    trainer = trainer_for(tmp_path, steps=20, check_val_every_n_epoch=20)
    trainer.fit(module, pairs(batches=1))
    assert all(unchanged(before, frozen))
    metrics = trainer.callback_metrics
    assert metrics["train/rewards/accuracies"] == 1
    assert metrics["train/loss"] < 0.4
    assert metrics["val/rewards/margins"] > 0.2


def test_a_run_goes_on_with_its_own_reference_only():
    module, checkpoint = unpooled(Sigmoid(), FrozenCopy()), {}
    module.reference.identity = "a" * 64
    module.on_save_checkpoint(checkpoint)
    module.on_load_checkpoint(checkpoint)
    module.reference.identity = "b" * 64
    with pytest.raises(
        ValueError, match=r"got a reference of digest b{12}, expected the checkpoint's, a{12}: go on with the"
    ):
        module.on_load_checkpoint(checkpoint)
    module.reference.identity = None  # to answer, no reference is prepared
    module.on_load_checkpoint(checkpoint)
