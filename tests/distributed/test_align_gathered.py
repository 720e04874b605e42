"""Steps of alignment on two real processes (gloo, Lightning's DDP) are those of one process on the joined batch."""

import pytest
import torch
from torch.utils.data import DataLoader

from ppl.batches import ContrastiveBatch
from ppl.modules.align import AlignModule
from ppl.modules.aligners.transformers_clip import TransformersCLIPAligner
from tests.modules.tiny import ROOT, tiny_aligner, tiny_backbone
from tests.quiet import quiet_trainer

pytestmark = pytest.mark.filterwarnings("ignore:Attribute '.*' is an instance of `nn.Module`:UserWarning")

CAPTIONS = (["a dog", "a red car on the road", "the cat"], ["the cat", "two birds", "a dog that runs"])
"""Of each rank, of different lengths in tokens; one caption is on both."""


def languagebind_aligner():
    return TransformersCLIPAligner(str(ROOT / "recipes/parts/aligners/tiny_languagebind"), "random")


SIMILARITIES = {"patches": tiny_aligner, "mean": languagebind_aligner}
"""With an aligner that pads with zeros, and with one that pads with the end of text."""


class PlainDescent(AlignModule):
    """Adam would hide a gradient that is too large by a factor; plain descent does not."""

    def configure_optimizers(self):
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=0.1)


def build(similarity):
    torch.manual_seed(0)
    module = PlainDescent(tiny_backbone(), SIMILARITIES[similarity](), vision_learning_rate=1e-3, similarity=similarity)
    return module.double()  # so that only an error can make a difference


def batches(module):
    """One batch of each rank."""
    generator = torch.Generator().manual_seed(0)
    return [
        ContrastiveBatch(
            kind="image",
            pixel_values=torch.randint(256, (3, 3, 48, 48), dtype=torch.uint8, generator=generator),
            prompt_ids=module.aligner.tokenize(captions),
            positives=torch.eye(3).bool(),
            regions=None,
            categories=[""] * 3,
        )
        for captions in CAPTIONS
    ]


def joined(first, second, tokenize):
    return ContrastiveBatch(
        kind="image",
        pixel_values=torch.cat([first["pixel_values"], second["pixel_values"]]),
        prompt_ids=tokenize([*CAPTIONS[0], *CAPTIONS[1]]),
        positives=torch.eye(6).bool(),
        regions=None,
        categories=[""] * 6,
    )


def fit(module, train, val, folder, **options):
    """Two steps, for DDP finds parameters without gradients at the second, and one validation; returns the logged."""
    trainer = quiet_trainer(folder, num_sanity_val_steps=0, **options)
    trainer.fit(module, DataLoader(train, batch_size=None), DataLoader(val, batch_size=None))
    return {name: value.item() for name, value in trainer.callback_metrics.items()}


def work(rank, folder):
    """What each process does."""
    for similarity in SIMILARITIES:
        module = build(similarity)
        own = batches(module)
        metrics = fit(module, [*own, *own], own, folder, devices=2, strategy="ddp")  # a sampler deals them to the ranks
        torch.save((metrics, module.state_dict()), folder / f"{similarity}_{rank}.pt")


@pytest.fixture(scope="module")
def results(two_processes, tmp_path_factory):
    """Folder of what both processes were left with."""
    folder = tmp_path_factory.mktemp("results")
    two_processes.run(work, folder)
    return folder


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_two_processes_equal_one(similarity, results, tmp_path):
    (metrics, together), (again, other) = (torch.load(results / f"{similarity}_{rank}.pt") for rank in range(2))
    assert again == metrics
    alone = build(similarity)
    before = {name: tensor.clone() for name, tensor in alone.state_dict().items()}
    batch = joined(*batches(alone), alone.aligner.tokenize)
    expected = fit(alone, [batch, batch], [batch], tmp_path)
    assert metrics["train/loss"] == pytest.approx(expected["train/loss"], rel=1e-6)  # logged in fp32
    assert {name for name in metrics if "recall" in name} == {name for name in expected if "recall" in name}
    for name, value in expected.items():
        if "recall" in name:
            assert metrics[name] == pytest.approx(value, rel=1e-6)
    moved = set()
    for name, tensor in alone.state_dict().items():
        assert torch.equal(together[name], other[name]), "the ranks have drifted apart"
        step = tensor - before[name]
        # float64, sums in another order; a step is the difference of numbers near 1, so it has 1e-16 of noise
        torch.testing.assert_close(together[name] - before[name], step, rtol=1e-6, atol=1e-13)
        if step.abs().max() > 1e-9:
            moved.add(name.split(".")[0 if name.startswith("backbone") else 1])
    assert moved == {"backbone", "text_tower", "visual_projection", "post_layernorm", "logit_scale"}


def test_the_gathered_loss_is_another_than_that_of_halves():
    """What the comparison above would miss if both sides forgot to gather."""
    module = build("mean")
    with torch.no_grad():
        first, second = (module._loss(*module._embed(batch), batch).item() for batch in batches(module))
        both = joined(*batches(module), module.aligner.tokenize)
        assert abs(module._loss(*module._embed(both), both).item() - (first + second) / 2) > 0.1
