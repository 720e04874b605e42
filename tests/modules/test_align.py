import math

import pytest
import torch
from lightning import Callback, Trainer
from safetensors.torch import load_file
from torch.utils.data import DataLoader

from ppl.batches import ContrastiveBatch
from ppl.datamodules.synthetic.contrastive import FrameQuestions, NamingMix
from ppl.functional.relevance import relevance_distribution
from ppl.modules.align import AlignModule
from tests.modules.tiny import snapshot, tiny_aligner, tiny_backbone, unchanged

# Lightning would rather not keep modules among the hyperparameters; the CLI hands over their recipe instead.
pytestmark = pytest.mark.filterwarnings("ignore:Attribute '.*' is an instance of `nn.Module`:UserWarning")


class Losses(Callback):
    def __init__(self):
        self.values = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.values.append(outputs["loss"].item())


def fit(module, folder, epochs):
    """Train on one batch of 16 frames, the same every epoch."""
    losses = Losses()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        check_val_every_n_epoch=epochs,
        num_sanity_val_steps=0,
        callbacks=[losses],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    loaders = [
        DataLoader(FrameQuestions(module.input_spec, seed, 1, 16, NamingMix(), held_out=held_out), batch_size=None)
        for seed, held_out in ((0, False), (1, True))
    ]
    trainer.fit(module, *loaders)
    return losses.values, trainer


def least_loss(positives):
    """With k right answers, the best that a softmax can do is to give each 1 / k: a cross-entropy of log k."""
    return sum(positives.sum(dim=axis).clamp(min=1).log().mean().item() for axis in (0, 1)) / 2


def test_one_batch_is_learnt_and_written(tmp_path):
    module = AlignModule(tiny_backbone(), tiny_aligner(), vision_learning_rate=2e-3, text_learning_rate=2e-3)
    tower, rest = module.backbone.vision_tower, module.backbone
    others = [*rest.projector.parameters(), *rest.language_model.parameters()]
    before = snapshot(others), snapshot(tower.parameters()), snapshot(module.aligner.parameters())
    losses, trainer = fit(module, tmp_path, epochs=30)
    batch = FrameQuestions(module.input_spec, 0, 1, 16, NamingMix(), held_out=False)[0]
    floor = least_loss(batch["positives"])
    assert losses[0] - floor > 1
    assert losses[-1] - floor < 0.5 * (losses[0] - floor)
    assert all(unchanged(before[0], others))
    assert not any(unchanged(before[2], module.aligner.parameters()))
    assert sum(unchanged(before[1], tower.parameters())) <= 2  # the norm after the layer that is read trains nothing
    metrics = trainer.callback_metrics
    assert {"val/loss", "val/attention_mass", "val/uniform_mass", "val/pointing/mean"} <= set(metrics)
    assert 0 < metrics["val/uniform_mass"] < 1
    stored = load_file(tmp_path / "alignment.safetensors")
    state = {f"vision_tower.{k}": v for k, v in tower.state_dict().items()}
    state |= {f"aligner.{k}": v for k, v in module.aligner.state_dict().items()}
    assert stored.keys() == state.keys()
    assert all(torch.equal(stored[name], tensor) for name, tensor in state.items())


def test_a_tower_without_rate_is_frozen(tmp_path):
    module = AlignModule(tiny_backbone(), tiny_aligner(), vision_learning_rate=None, text_learning_rate=1e-2)
    before = snapshot(module.backbone.parameters()), snapshot(module.aligner.parameters())
    fit(module, tmp_path, epochs=2)
    assert all(unchanged(before[0], module.backbone.parameters()))
    assert not any(unchanged(before[1], module.aligner.parameters()))


def test_the_loss_of_alike_pairs_is_that_of_guessing():
    """Texts that are all the same tell nothing: each of n is as likely, so the cross-entropy is log n."""
    module = AlignModule(tiny_backbone(), tiny_aligner())
    ids = module.aligner.tokenize(["what ?"]).expand(4, -1)
    pixels = torch.randint(256, (1, 3, 48, 48), dtype=torch.uint8).expand(4, -1, -1, -1)
    batch = ContrastiveBatch(
        pixel_values=pixels, prompt_ids=ids, positives=torch.eye(4).bool(), regions=None, categories=["any"] * 4
    )
    assert module._loss(batch).item() == pytest.approx(math.log(4), abs=1e-4)


def test_pointing_by_a_loop():
    module = AlignModule(tiny_backbone(), tiny_aligner())
    pixels = torch.randint(256, (3, 3, 48, 48), dtype=torch.uint8)
    ids = module.aligner.tokenize(["what colour ?", "which way ?", "red square"])
    regions = torch.rand(3, 6, 6) < 0.4
    with torch.no_grad():
        grids, prompts = module.backbone.encode_frames(pixels), module.aligner.embed_prompts(ids)
        expected_hits, expected_mass = [], []
        for i, (grid, prompt) in enumerate(zip(grids, prompts, strict=True)):
            attention = relevance_distribution(module.aligner.relevance(grid[None], prompt))[0]
            row, column = divmod(int(attention.argmax()), 6)
            regions[i, row, column] = i != 1  # the second misses whatever was drawn
            expected_hits.append(i != 1)
            expected_mass.append(attention[regions[i]].sum().item())
        batch = ContrastiveBatch(
            pixel_values=pixels, prompt_ids=ids, positives=torch.eye(3).bool(), regions=regions, categories=[""] * 3
        )
        hits, mass, uniform = module._point(batch, regions)
    assert hits.tolist() == expected_hits
    assert mass.item() == pytest.approx(sum(expected_mass) / 3, rel=1e-5)
    assert uniform.item() == pytest.approx(regions.sum().item() / (3 * 36))
