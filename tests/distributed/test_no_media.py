"""Two real processes (gloo, DDP), one of them without media, do a step of one process on the joined batch."""

import pytest
import torch
from torch.utils.data import DataLoader

from ppl.modules.parts import LearningRates
from ppl.modules.poolers.weighted import WeightedPooler
from ppl.modules.sft import SFTModule
from tests.modules.tiny import image, make_batch, tiny_aligner, tiny_backbone, video
from tests.quiet import quiet_trainer

pytestmark = [
    pytest.mark.filterwarnings("ignore:Attribute '.*' is an instance of `nn.Module`:UserWarning"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`"),
]

RATES = {
    "trainable": LearningRates(vision_tower=1e-3, aligner_projection=1e-3),
    "frozen": LearningRates(),
}
WITHOUT_MEDIA, WITH_MEDIA = 0, 1
QUESTION, ANSWER = "what colour is the square ?", "red"


class PlainDescent(SFTModule):
    """Adam would hide a gradient that is too large by a factor; plain descent does not."""

    def configure_optimizers(self):
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=0.1)


def build(towers):
    torch.manual_seed(0)
    pooler = WeightedPooler((2, 3, 2), None, (1, 3, 2))
    module = PlainDescent(tiny_backbone(), pooler, tiny_aligner(), learning_rates=RATES[towers])
    return module.double()  # so that only an error can make a difference


def rows(kind):
    """One conversation of each rank, with answers equally long: the mean of their losses is the joined batch's."""
    torch.manual_seed(1)
    media = [video(4)] if kind == "video" else [image(40, 90)]
    return {WITHOUT_MEDIA: ([], QUESTION, ANSWER), WITH_MEDIA: (media, QUESTION, ANSWER)}


def fit(module, batch, folder, **options):
    trainer = quiet_trainer(folder, **options)
    trainer.fit(module, DataLoader([batch], batch_size=None, collate_fn=lambda batch: batch))
    return module.state_dict()


def work(rank, folder):
    """What each process does; it is not told to look for unused weights."""
    for towers in RATES:
        for kind in ("video", "image"):
            module = build(towers)
            batch = make_batch(module.model, rows(kind)[rank])
            torch.save(fit(module, batch, folder, devices=2, strategy="ddp"), folder / f"{towers}_{kind}_{rank}.pt")


@pytest.fixture(scope="module")
def results(two_processes, tmp_path_factory):
    """Folder of what both processes were left with."""
    folder = tmp_path_factory.mktemp("results")
    two_processes.run(work, folder)
    return folder


@pytest.mark.parametrize("kind", ["video", "image"])
@pytest.mark.parametrize("towers", RATES)
def test_a_rank_without_media_takes_part(towers, kind, results, tmp_path):
    first, second = (torch.load(results / f"{towers}_{kind}_{rank}.pt") for rank in range(2))
    alone = build(towers)
    before = {name: tensor.clone() for name, tensor in alone.state_dict().items()}
    after = fit(alone, make_batch(alone.model, *rows(kind).values()), tmp_path)
    moved = set()
    for name, tensor in after.items():
        assert torch.equal(first[name], second[name]), "the ranks have drifted apart"
        step = tensor - before[name]
        # float64, sums in another order; a step is the difference of numbers near 1, so it has 1e-16 of noise
        torch.testing.assert_close(first[name] - before[name], step, rtol=1e-6, atol=1e-12)
        if step.abs().max() > 1e-9:
            moved.add(name)
    assert any("vision_tower" in name for name in moved) == (towers == "trainable")
    assert any("multi_modal_projector" in name for name in moved)
    assert any("image_newline" in name for name in moved) == (kind == "image")
