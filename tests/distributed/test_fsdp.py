"""Steps of two real processes (gloo) under DDP, FSDP2, FSDP1 and tensor parallelism are those of one on joined batches.

FSDP1 asks for a GPU, and takes a CPU that it is given by name; Lightning gives none, and makes float32 of float64: that
much is bent here.
"""

import functools

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.precision import FSDPPrecision
from torch import distributed
from torch.distributed import fsdp
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.utils.data import DataLoader

from ppl.callbacks.training_summary import TrainingSummary
from ppl.checkpoint_files import read_shards
from ppl.modules.backbones.video_llava import VideoLlavaBackbone
from ppl.modules.execution import Execution
from ppl.modules.feature_cache import Caching
from ppl.modules.gradient_check import GradientCheck
from ppl.modules.lora import LoRA
from ppl.modules.parts import LearningRates
from ppl.modules.poolers.average import AveragePooler
from ppl.modules.poolers.weighted import WeightedPooler
from ppl.modules.sft import SFTModule
from ppl.saving.folders import VerifiedFolders
from ppl.strategies.fsdp1 import FSDP1Strategy
from ppl.strategies.fsdp2 import FSDP2Strategy
from tests.modules.tiny import ROOT, image, make_batch, tiny_aligner, tiny_backbone, video
from tests.quiet import quiet_trainer

pytestmark = [
    pytest.mark.timeout(900),  # two processes beside others' work
    pytest.mark.filterwarnings("ignore:Attribute '.*' is an instance of `nn.Module`:UserWarning"),
    pytest.mark.filterwarnings("ignore:It is recommended to use `self.log"),  # of what is the same on all ranks
]

WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)
TRAINED = LearningRates(vision_tower=1e-3, aligner_projection=1e-3)
EVERYWHERE = Execution(activation_checkpointing=("vision_tower", "language_model", "text_tower"))


class Recorded(SFTModule):
    """Keeps the loss of each batch."""

    losses: list

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.losses.append(loss.item())
        return loss

    def on_save_checkpoint(self, checkpoint):
        super().on_save_checkpoint(checkpoint)
        del checkpoint["hyper_parameters"]  # live modules: it was not built from a recipe


class PlainDescent(Recorded):
    """Adam would hide a gradient that is too large by a factor; plain descent does not."""

    def configure_optimizers(self):
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=0.1)


def build(kind=PlainDescent, backbone=tiny_backbone, aligner=tiny_aligner, **options):
    torch.manual_seed(0)
    windows = ((2, 3, 2), None, (1, 3, 2))
    pooler = WeightedPooler(*windows) if aligner else AveragePooler(*windows)
    module = kind(backbone(), pooler, aligner() if aligner else None, **options)
    module.losses = []
    return module.double()  # so that only an error can make a difference


def video_llava():
    return VideoLlavaBackbone(str(ROOT / "recipes/parts/backbones/tiny_video_llava"), "random")


def ragged():
    """Batches of two rows on each rank: of every kind, several, none; equally long answers.

    Each joined batch has images: weights that one leaves out have no gradient in one process, and zeros in two, with
    which AdamW's momentum goes on.
    """
    torch.manual_seed(1)
    none, clip, short = [], [video(4, "clip")], [video(2)]
    tiled, two = [image(40, 90)], [image(40, 90), image(60, 30)]
    return [
        ([none, none], [clip, tiled]),
        ([tiled, clip], [none, short]),
        ([clip, tiled], [none, none]),
        ([two, none], [tiled, short]),
    ]


def apart():
    """One rank has only videos, the other only images or nothing."""
    torch.manual_seed(1)
    clip, still = [video(4)], [image(40, 90)]
    return [([clip], [still]), ([[]], [clip])]


def same():
    """Of both ranks, for they share a batch."""
    return [(batch[0] + batch[1],) * 2 for batch in ragged()]


CASES = {
    # name: how to build, batches, trainer, strategies
    "towers": (functools.partial(build, learning_rates=TRAINED), ragged, {}, ("ddp", "fsdp2", "fsdp1")),
    "clipped": (
        functools.partial(build, learning_rates=TRAINED, execution=EVERYWHERE),
        ragged,
        {"gradient_clip_val": 0.5, "accumulate_grad_batches": 2},
        ("fsdp2", "fsdp1"),
    ),
    "lora": (
        functools.partial(
            build,
            Recorded,
            functools.partial(tiny_backbone, frames_per_forward=3),
            lora=LoRA(4, 8.0, 0.0),
            weight_decay=0.5,
            warmup_ratio=0.0,
            cache=Caching(1.0),
        ),
        ragged,
        {},
        ("ddp", "fsdp2", "fsdp1"),
    ),
    "two_towers": (
        functools.partial(build, backbone=video_llava, aligner=None, learning_rates=LearningRates(vision_tower=1e-3)),
        apart,
        {},
        ("ddp", "fsdp2"),
    ),
    "cut_layers": (build, same, {"gradient_clip_val": 0.5}, ("tensor_parallel",)),
}
RUNS = [(case, strategy) for case, (_, _, _, strategies) in CASES.items() for strategy in strategies]
QUICK = [("towers", "fsdp2"), ("lora", "fsdp1")]
"""What every test run sees; the others take over a minute together."""
REST = [run for run in RUNS if run not in QUICK]
SINGLE = ("clipped", "fsdp1")
"""In float32: the norms that FSDP1 clips by are."""


class OnCPU(fsdp.FullyShardedDataParallel):
    """Told that its device is the CPU, which Lightning has no way to say."""

    def __init__(self, module, **options):
        super().__init__(module, **{**options, "device_id": torch.device("cpu")})


def strategy_of(name):
    if name == "fsdp1":
        return FSDP1Strategy()
    return name if name == "ddp" else FSDP2Strategy(tensor_parallel_size=2 if name == "tensor_parallel" else 1)


def batches_of(model, rows):
    return [
        make_batch(model, *((media, "what colour is the square ?", "red") for media in several)) for several in rows
    ]


def fit(module, batches, folder, ckpt_path=None, callbacks=(), **options):
    """Train on batches, and validate on the same."""
    trainer = quiet_trainer(folder, *callbacks, num_sanity_val_steps=0, use_distributed_sampler=False, **options)
    loader = DataLoader(batches, batch_size=None, collate_fn=lambda batch: batch)
    trainer.fit(module, loader, loader, ckpt_path=ckpt_path)
    return trainer


def save_and_resume(rank, folder, strategy, **clipping):
    """Two epochs of a batch, with a checkpoint of shards after each; and the second again, from the first's."""
    for name, path in (("whole", None), ("resumed", folder / "shards/epoch=0.ckpt")):
        module = build(Recorded, learning_rates=TRAINED)
        saving = ModelCheckpoint(folder / "shards", "{epoch}", save_top_k=-1 if path is None else 0)
        options = {"max_epochs": 2, "enable_checkpointing": True, "callbacks": [saving], **clipping}
        batches = batches_of(module.model, [ragged()[0][rank]])
        folder.mkdir(exist_ok=True)
        trainer = fit(module, batches, folder, path, devices=2, strategy=strategy_of(strategy), **options)
        torch.save(get_model_state_dict(trainer.strategy.model, options=WHOLE), folder / f"{name}_{rank}.pt")


def work(rank, folder, runs):
    """What each process does."""
    fsdp.FullyShardedDataParallel = OnCPU
    for case, strategy in runs:
        as_it_is = (case, strategy) != SINGLE
        FSDPPrecision.convert_module = lambda _, module, kept=as_it_is: module if kept else module.float()
        make, rows, options, _ = CASES[case]
        module = make()
        batches = batches_of(module.model, [ranks[rank] for ranks in rows()])
        callbacks = [TrainingSummary(), GradientCheck()]
        plan = strategy_of(strategy)
        trainer = fit(module, batches, folder, devices=2, strategy=plan, callbacks=callbacks, **options)
        model = trainer.strategy.model if strategy != "ddp" else module
        result = {
            "weights": get_model_state_dict(model, options=WHOLE),
            "losses": module.losses,
            "validation": trainer.callback_metrics["val/loss"].item(),
            "groups": [(g["name"], g["weight_decay"]) for g in trainer.optimizers[0].param_groups if "name" in g],
        }
        torch.save(result, folder / f"{case}_{strategy}_{rank}.pt")
    if runs == REST:
        save_and_resume(rank, folder, "fsdp2", gradient_clip_val=0.5)
        FSDPPrecision.convert_module = lambda _, module: module
        save_and_resume(rank, folder / "fsdp1", "fsdp1")


def folder_of(runs, two_processes, tmp_path_factory):
    """What both processes were left with."""
    folder = tmp_path_factory.mktemp("results")
    two_processes.run(work, folder, runs)
    return folder


@pytest.fixture(scope="module")
def quick(two_processes, tmp_path_factory):
    return folder_of(QUICK, two_processes, tmp_path_factory)


@pytest.fixture(scope="module")
def results(two_processes, tmp_path_factory):
    return folder_of(REST, two_processes, tmp_path_factory)


@functools.cache
def alone(case, folder):
    """What one process makes of the joined batches: weights before and after, losses, validation and groups."""
    make, rows, options, strategies = CASES[case]
    module = make()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    joined = [first if strategies == ("tensor_parallel",) else first + second for first, second in rows()]
    trainer = fit(module, batches_of(module.model, joined), folder, **options)
    groups = [(g["name"], g["weight_decay"]) for g in trainer.optimizers[0].param_groups if "name" in g]
    return before, module.state_dict(), module.losses, trainer.callback_metrics["val/loss"].item(), groups


@pytest.mark.parametrize(("case", "strategy"), QUICK, ids=["-".join(run) for run in QUICK])
def test_two_processes_equal_one(case, strategy, quick, tmp_path):
    assert_equals_one(case, strategy, quick, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("case", "strategy"), REST, ids=["-".join(run) for run in REST])
def test_two_processes_equal_one_in_all_else(case, strategy, results, tmp_path):
    assert_equals_one(case, strategy, results, tmp_path)


def assert_equals_one(case, strategy, folder, tmp_path):
    first, second = (torch.load(folder / f"{case}_{strategy}_{rank}.pt") for rank in range(2))
    before, after, losses, validation, groups = alone(case, tmp_path)
    assert first["groups"] == groups
    means = [sum(pair) / 2 for pair in zip(first["losses"], second["losses"], strict=True)]
    single = (case, strategy) == SINGLE
    assert means == pytest.approx(losses, rel=1e-6 if single else 1e-9)  # sums in another order
    assert first["validation"] == pytest.approx(validation, rel=1e-6)  # logged in fp32
    moved = set()
    assert first["weights"].keys() == after.keys()
    for name, tensor in after.items():
        step = tensor - before[name]
        # a step is the difference of numbers near 1, so it has 1e-16 of noise; AdamW divides a gradient by its size
        torch.testing.assert_close(
            first["weights"][name] - before[name], step, rtol=1e-3 if single else 1e-6, atol=1e-6 if single else 1e-11
        )
        if step.abs().max() > 1e-9:
            moved.add(name)
    assert any("lora_" in name for name in moved) == (case == "lora")
    vision = ("vision_tower.", "image_tower.", "video_tower.")
    assert any(tower in name for name in moved for tower in vision) == (case in ("towers", "clipped", "two_towers"))
    assert any("multi_modal_projector" in name for name in moved)


@pytest.mark.slow
@pytest.mark.parametrize("of", [".", "fsdp1"])
def test_two_processes_go_on_from_shards_as_if_never_stopped(of, results):
    whole, resumed = (torch.load(results / of / f"{name}_0.pt") for name in ("whole", "resumed"))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())
    kept = read_shards(results / of / "shards/epoch=1.ckpt")["state_dict"]
    assert kept.keys() == whole.keys()
    assert all(torch.equal(tensor, kept[name]) for name, tensor in whole.items())
    assert {path.name for path in (results / of / "shards").iterdir()} == {"epoch=0.ckpt", "epoch=1.ckpt"}
    assert issubclass(FSDP1Strategy, VerifiedFolders), (
        "as FSDP2's, whose folders tests/distributed/test_robust.py damages"
    )


def weights_of_one(folder):
    """What one process makes of the joined batch in two epochs."""
    module = build(Recorded, learning_rates=TRAINED)
    (first, second), *_ = ragged()
    options = {"max_epochs": 2, "gradient_clip_val": 0.5}
    fit(module, batches_of(module.model, [first + second]), folder, **options)
    return module.state_dict()


def assert_close(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():  # float64; AdamW divides a gradient by its size
        torch.testing.assert_close(found[name], tensor, rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_shards_put_together_are_the_weights_of_one_process(results, tmp_path):
    dcp_to_torch_save(results / "shards/epoch=1.ckpt", tmp_path / "all")
    assert_close(torch.load(tmp_path / "all")["state_dict"], weights_of_one(tmp_path))


@pytest.mark.slow
def test_one_process_goes_on_from_the_shards_of_two(results, tmp_path):
    module = build(Recorded, learning_rates=TRAINED)
    (first, second), *_ = ragged()
    batches = batches_of(module.model, [first + second])
    try:
        saving = ModelCheckpoint(results / "shards", save_top_k=0)  # as when it was saved, or Lightning warns
        options = {"enable_checkpointing": True, "callbacks": [saving], "max_epochs": 2, "gradient_clip_val": 0.5}
        path = results / "shards/epoch=0.ckpt"
        trainer = fit(module, batches, tmp_path, path, devices=1, strategy=FSDP2Strategy(), **options)
        assert_close(get_model_state_dict(trainer.strategy.model, options=WHOLE), weights_of_one(tmp_path))
    finally:
        distributed.destroy_process_group()
