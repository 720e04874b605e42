from types import SimpleNamespace

import pytest
from lightning import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader

from ppl.callbacks.loader_wait import LoaderWait
from ppl.callbacks.throughput import Device, Interval, Throughput, _metrics
from ppl.modules.poolers.weighted import WeightedPooler
from ppl.modules.sft import SFTModule
from ppl.modules.work_meter import WorkMeter
from tests.modules.tiny import make_batch, tiny_aligner, tiny_backbone, video

pytestmark = [
    pytest.mark.filterwarnings("ignore:Attribute '.*' (is an instance of `nn.Module`|removed from hparams)"),
    pytest.mark.filterwarnings("ignore:Trying to infer the `batch_size`"),
]


def test_numbers_by_hand():
    interval = Interval(
        batches=2.0,
        samples=8.0,
        tokens=600.0,
        positions=800.0,
        visual_tokens=100.0,
        flops=4e12,
        seconds=2.0,
        waited=0.5,
    )
    assert _metrics(interval, Device(2, 10e12, 3.0)) == {
        "tokens_per_second": 300,
        "visual_tokens_per_second": 50,
        "samples_per_second": 4,
        "padding": 0.25,
        "teraflops_per_device": 1.0,
        "mfu": 0.1,
        "batches_per_second": 1,
        "peak_memory_gib": 3.0,
        "data_wait": 0.25,
    }


def test_what_is_not_known_is_left_out():
    interval = Interval(batches=2.0, tokens=600.0, positions=800.0, seconds=2.0)
    assert "mfu" not in _metrics(interval, Device(1, None, 3.0))
    assert "data_wait" not in _metrics(interval, Device(1, None, 3.0, waits_are_known=False))
    assert set(_metrics(Interval(batches=2.0, seconds=2.0), Device(1, 1e12, 3.0))) == {
        "batches_per_second",
        "peak_memory_gib",
        "data_wait",
    }


class Slow(Callback):
    """Two seconds a step, a hundred a validation."""

    def __init__(self, clock):
        self.clock = clock

    def on_before_zero_grad(self, trainer, pl_module, optimizer):
        self.clock.now += 2.0

    def on_validation_batch_end(self, *args):
        self.clock.now += 100.0


class SlowBatches:
    """Batches that take a second each."""

    def __init__(self, batches, clock):
        self.batches, self.clock = batches, clock

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        for batch in self.batches:
            self.clock.now += 1.0
            yield batch


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    fake = SimpleNamespace(perf_counter=lambda: clock.now)
    monkeypatch.setattr("ppl.callbacks.throughput.time", fake)
    monkeypatch.setattr("ppl.callbacks.loader_wait.time", fake)
    return clock


def module_and_batches():
    module = SFTModule(tiny_backbone(), WeightedPooler((2, 3, 2), None, (1, 3, 2)), tiny_aligner())
    rows = [([video(4)], "what colour is the square ?", "red"), ([], "which way ? " * 5, "left")]
    return module, [
        make_batch(module.model, *rows),
        make_batch(module.model, rows[0]),
        *[make_batch(module.model, *rows)] * 2,
    ]


def logged(folder, module, batches, clock, **options):
    """Metrics of each line of the logger."""
    lines = []

    class Lines(CSVLogger):
        def log_hyperparams(self, params):
            del params  # live modules: made by hand here, not by the command line

        def log_metrics(self, metrics, step=None):
            lines.append(metrics)

    trainer = Trainer(
        accelerator="cpu", max_epochs=1, callbacks=[Slow(clock), Throughput()], profiler=LoaderWait(),
        logger=Lines(folder), enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=1, **options,
    )  # fmt: skip
    validation = DataLoader([batches[0]], batch_size=None, collate_fn=lambda batch: batch)
    trainer.fit(module, SlowBatches(batches, clock), validation)
    return [line for line in lines if "throughput/tokens_per_second" in line]


def test_each_line_is_the_mean_since_the_last_without_validation(tmp_path, clock):
    module, batches = module_and_batches()
    meter = WorkMeter(module.model)
    meter.is_counting = True
    for batch in batches:
        module.model(batch)
    flops = meter.read().flops
    meter.detach()
    lines = logged(tmp_path, module, batches, clock, log_every_n_steps=2, val_check_interval=1)
    assert len(lines) == 2
    for line, pair in zip(lines, (batches[:2], batches[2:]), strict=True):
        masks = [batch["attention_mask"] for batch in pair]
        tokens, positions = sum(int(m.sum()) for m in masks), sum(m.numel() for m in masks)
        image = module.model.backbone.image_token_id
        visual = sum(int((batch["input_ids"] == image).sum()) for batch in pair)
        values = {name.removeprefix("throughput/"): value for name, value in line.items()}
        assert visual > 0
        # Two steps of 1 s of loading and 2 s of work; Lightning keeps metrics in fp32.
        assert values["batches_per_second"] == pytest.approx(2 / 6)
        assert values["samples_per_second"] == pytest.approx(sum(len(batch["ids"]) for batch in pair) / 6)
        assert values["tokens_per_second"] == pytest.approx(tokens / 6)
        assert values["visual_tokens_per_second"] == pytest.approx(visual / 6)
        assert values["padding"] == pytest.approx(1 - tokens / positions, abs=1e-6)
        assert values["data_wait"] == pytest.approx(1 / 3)
        assert values["peak_memory_gib"] > 0.1
        assert "mfu" not in values
    total = sum(line["throughput/teraflops_per_device"] * 6e12 for line in lines)
    assert flops < total < 3.01 * flops, "forward and backward"


def test_accumulated_batches_are_one_step(tmp_path, clock):
    module, batches = module_and_batches()
    lines = logged(tmp_path, module, batches, clock, log_every_n_steps=1, accumulate_grad_batches=2)
    assert [line["throughput/samples_per_second"] for line in lines] == pytest.approx([3 / 4, 4 / 4])


def test_the_meter_is_taken_off(tmp_path, clock):
    module, batches = module_and_batches()
    logged(tmp_path, module, batches, clock)
    assert not any(m._forward_pre_hooks for m in module.modules())
