from contextlib import nullcontext
from functools import partial

import pytest
import torch
import yaml
from lightning import Callback
from torch.utils.data import DataLoader

from ppl.datamodules.collate import collate
from ppl.datamodules.processing import Processor
from ppl.datamodules.synthetic.instruction import QuestionMix, SyntheticQuestions
from ppl.datamodules.synthetic.questions import QUESTION_TYPES
from ppl.modules.feature_cache import Caching
from ppl.modules.generation import Generation
from ppl.modules.parts import LearningRates
from ppl.modules.poolers.average import AveragePooler
from ppl.modules.poolers.weighted import WeightedPooler
from ppl.modules.sft import Regularization, SFTModule
from tests.modules.tiny import ROOT, make_batch, snapshot, tiny_aligner, tiny_backbone, unchanged, video
from tests.quiet import quiet_trainer

# Lightning would rather not keep modules among the hyperparameters; the CLI hands over their recipe instead.
pytestmark = pytest.mark.filterwarnings("ignore:Attribute '.*' (is an instance of `nn.Module`|removed from hparams)")


class Losses(Callback):
    def __init__(self):
        self.values = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.values.append(outputs["loss"].item())


def trainer_for(folder, epochs, *callbacks):
    options = {"max_epochs": epochs, "check_val_every_n_epoch": epochs, "num_sanity_val_steps": 0}
    return quiet_trainer(folder, *callbacks, gradient_clip_val=1.0, **options)


def questions(module, number=8, *, seed=0, prompts=False):
    """Questions about four clips of the synthetic world, 8 to a batch, always in the same order."""
    inputs = module.input_spec
    data = SyntheticQuestions(Processor(inputs, num_frames=4), seed, 4, number, QuestionMix(), prompt=prompts)
    side = "left" if prompts else "right"
    return DataLoader(data, batch_size=8, collate_fn=partial(collate, inputs=inputs, padding_side=side))


def module_with(rates, **options):
    return SFTModule(tiny_backbone(), WeightedPooler(), tiny_aligner(), learning_rates=rates, **options)


def test_one_batch_is_learnt_by_heart(tmp_path):
    losses = Losses()
    module = module_with(LearningRates(3e-3, 3e-3, 1e-3), cache=Caching(0.1), warmup_ratio=0.1)
    trainer = trainer_for(tmp_path, 50, losses)
    trainer.fit(module, questions(module), questions(module, 16, seed=1))
    assert losses.values[0] > 2
    assert losses.values[-1] < 0.05
    metrics = trainer.callback_metrics
    assert {"val/loss", "val/accuracy/mean"} <= set(metrics)
    seen = {name.removeprefix("val/accuracy/") for name in metrics if name.startswith("val/accuracy/")} - {"mean"}
    assert seen <= set(QUESTION_TYPES)
    assert len(seen) > 1
    learnt = trainer.validate(module, questions(module), verbose=False)[0]
    assert learnt["val/accuracy/mean"] == 1


def test_predictions_name_what_they_answer(tmp_path):
    module = module_with(LearningRates(), generation=Generation(max_new_tokens=3))
    data = questions(module, 14, prompts=True)
    batches = trainer_for(tmp_path, 1).predict(module, data)
    rows = [row for batch in batches for row in batch]
    examples = [data.dataset.example(i) for i in range(14)]
    assert [row["answer"] for row in rows] == [example.question.answer for example in examples]
    assert [row["prompt"] for row in rows] == [example.question.text for example in examples]
    assert [row["category"] for row in rows] == [example.question.type for example in examples]
    assert len({row["id"] for row in rows}) == 14
    assert all(set(row) == {"id", "prompt", "prediction", "answer", "category"} for row in rows)
    assert all(len(row["prediction"].split()) <= 3 for row in rows)
    assert any(row["prediction"] for row in rows)


PARTS = ("language_model", "projector", "text_tower", "aligner_projection", "vision_tower", "newline")


@pytest.mark.parametrize("trained", [("language_model", "projector", "text_tower"), ("vision_tower",)])
def test_trained_parts_move_and_frozen_ones_stay_bit_identical(tmp_path, trained):
    rates = LearningRates(**(dict.fromkeys(PARTS) | dict.fromkeys(trained, 1e-2)))
    module = module_with(rates)
    before = {part.name: snapshot(part.parameters) for part in module.parts}
    scale = module.model.aligner.logit_scale.clone()
    trainer_for(tmp_path, 2).fit(module, questions(module), questions(module, seed=1))
    assert set(before) == set(PARTS)
    for part in module.parts:
        same = unchanged(before[part.name], part.parameters)
        assert all(same) == (part.name not in trained), part.name
    assert torch.equal(scale, module.model.aligner.logit_scale)


@pytest.mark.parametrize("option", ["label_smoothing", "neftune_alpha"])
def test_what_makes_training_harder_leaves_validation_as_it_is(tmp_path, option):
    def losses(**options):
        torch.manual_seed(0)
        still = LearningRates(1e-30, None, None, newline=None)  # lost in float32
        module = module_with(still, regularization=Regularization(**options))
        seen, trainer = Losses(), trainer_for(tmp_path, 1)
        trainer.callbacks.append(seen)
        trainer.fit(module, questions(module), questions(module, seed=1))
        return seen.values[0], trainer.callback_metrics["val/loss"].item()

    plain, harder = losses(), losses(**{option: 0.3})
    assert harder[0] != plain[0]
    assert harder[1] == plain[1]


@pytest.mark.parametrize("options", [{"label_smoothing": 1.0}, {"label_smoothing": -0.1}, {"neftune_alpha": -1.0}])
def test_no_share_and_no_size_are_refused(options):
    with pytest.raises(ValueError, match=r"expected 0 <= label_smoothing < 1 and neftune_alpha >= 0; set model.reg"):
        Regularization(**options)


@pytest.mark.parametrize("vision_tower", [None, 1e-3])
def test_only_a_frozen_tower_stays_in_evaluation_mode(tmp_path, vision_tower):
    class Modes(Callback):
        def __init__(self):
            self.values = []

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            backbone = pl_module.model.backbone
            towers = {m.training for m in backbone.vision_tower.modules()}
            self.values.append((towers, {m.training for m in backbone.language_model.modules()}))

    modes = Modes()
    module = module_with(LearningRates(vision_tower=vision_tower))
    trainer = trainer_for(tmp_path, 2, modes)
    trainer.check_val_every_n_epoch = 1  # validation in between must not undo it
    trainer.fit(module, questions(module), questions(module, seed=1))
    assert modes.values == [({vision_tower is not None}, {True})] * 2


def test_under_the_official_overlay_a_bt_adapter_trains_beside_a_frozen_tower(tmp_path):
    class Gradients(Callback):
        def __init__(self):
            self.names, self.modes = [], []

        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            tower = pl_module.model.backbone.vision_tower
            self.names.append({name for name, p in tower.named_parameters() if p.grad is not None and p.grad.any()})
            self.modes.append({name: {m.training for m in each.modules()} for name, each in tower.items()})

    overlay = yaml.safe_load((ROOT / "recipes/overlays/official.yaml").read_text())["model"]["init_args"]
    pooler = WeightedPooler(**overlay["pooler"]["init_args"])
    backbone = tiny_backbone(bt_adapter_depth=2, bt_adapter_frames=4)
    rates = LearningRates(**overlay["learning_rates"])
    module = SFTModule(backbone, pooler, tiny_aligner(), pool_site=overlay["pool_site"], learning_rates=rates)
    before = {part.name: snapshot(part.parameters) for part in module.parts}
    gradients = Gradients()
    trainer_for(tmp_path, 2, gradients).fit(module, questions(module), questions(module, seed=1))
    for part in module.parts:
        frozen = part.name in ("vision_tower", "text_tower", "newline")
        assert all(unchanged(before[part.name], part.parameters)) == frozen, part.name
    adapter = {f"bt_adapter.{name}" for name, _ in backbone.bt_adapter.named_parameters()}
    # temporal layers start as no change: only behind the first step does their attention count
    first = {name for name in adapter if ".temporal." in name and "temporal_fc" not in name}
    unseen = {name for name in adapter if "k_proj.bias" in name}  # softmax ignores what all keys share
    assert adapter - first - unseen <= gradients.names[0] <= adapter
    assert adapter - unseen <= gradients.names[1] <= adapter
    assert gradients.modes == [{"tower": {False}, "bt_adapter": {True}}] * 2


def test_a_cache_is_refused_with_a_bt_adapter_that_trains():
    for rate, refused in ((2e-5, True), (None, False)):
        backbone, rates = tiny_backbone(bt_adapter_depth=1), LearningRates(bt_adapter=rate)
        module = SFTModule(backbone, AveragePooler(), learning_rates=rates, cache=Caching(0.1))
        batch = make_batch(module.model, ([video(2)], "what is this ?", "red"))
        with pytest.raises(ValueError, match="a feature cache with") if refused else nullcontext():
            module.model.encode(batch["pixel_values"], batch["media"])


def test_the_learning_rate_rises_and_falls_to_zero(tmp_path):
    class Rates(Callback):
        def __init__(self):
            self.values = []

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            self.values.append({g["name"]: g["lr"] for g in trainer.optimizers[0].param_groups})

    rates = Rates()
    module = SFTModule(
        tiny_backbone(), AveragePooler(), learning_rates=LearningRates(1e-3, 2e-3), warmup_ratio=0.5, weight_decay=0.1
    )
    trainer = trainer_for(tmp_path, 8, rates)
    trainer.fit(module, questions(module), questions(module, seed=1))
    parts = ("language_model", "projector")
    names = {f"{part}/{kind}" for part in parts for kind in ("decay", "no_decay")} | {"newline/no_decay"}
    assert set(rates.values[0]) == names
    # Four steps of warm-up from 0, then half a cosine: 1/2 (1 + cos(pi k / 4)).
    expected = [0, 0.25, 0.5, 0.75, 1, 0.853553, 0.5, 0.146447]
    for name, peak in (("language_model/decay", 1e-3), ("projector/no_decay", 2e-3)):
        assert [step[name] / peak for step in rates.values] == pytest.approx(expected, abs=1e-6)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0, abs=1e-12)


def test_the_checkpoint_holds_what_the_model_is_rebuilt_from(tmp_path):
    module = module_with(LearningRates())
    checkpoint = {}
    module.on_save_checkpoint(checkpoint)
    assert set(checkpoint["ppl"]["files"]) == set(module.model.files())
    restored = module_with(LearningRates())
    restored.on_load_checkpoint({"ppl": {"conversation": {"template": "vicuna_v1", "num_frames": 7}}})
    restored.on_save_checkpoint(checkpoint)
    assert checkpoint["ppl"]["conversation"] == {"template": "vicuna_v1", "num_frames": 7}
