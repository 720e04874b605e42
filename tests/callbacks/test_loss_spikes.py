import json
import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ppl.callbacks.loss_spikes import LossSpikes, center_and_spread
from tests.callbacks.regression import Batches, Regression, batch
from tests.quiet import quiet_trainer


class Told(Regression):
    """Whose losses are those of the batches, so that what stands out is known."""

    def training_step(self, batch, batch_idx):
        return 0 * super().training_step(batch, batch_idx) + batch["loss"]


def told(losses):
    return [batch(number) | {"loss": loss} for number, loss in enumerate(losses)]


def quiet(number):
    """Losses between 0.9 and 1.1: median 1, median absolute deviation 0.05."""
    return [1 + (index % 5 - 2) / 20 for index in range(number)]


def fit(folder, losses, **options):
    spikes = LossSpikes(window=20, threshold=6.0, min_losses=10)
    quiet_trainer(folder, spikes, log_every_n_steps=7, **options).fit(Told(), Batches(told(losses)))
    path = folder / "loss_spikes.jsonl"
    return spikes, [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_spike_is_written_with_its_samples(tmp_path, caplog):
    losses = quiet(30)
    losses[17] = 1.5
    spikes, (line,) = fit(tmp_path, losses)
    assert spikes.spikes == 1
    assert line["ids"] == batch(17)["ids"]
    assert line["step"] == 18, "steps taken when it was seen"
    assert line["loss"] == 1.5
    assert line["median"] == pytest.approx(1)
    assert line["deviation"] == pytest.approx(1.4826 * 0.05, rel=1e-6)
    assert "loss spike: step 18, loss 1.5" in caplog.text


def test_what_is_none(tmp_path):
    """Close above, far below, NaN, and whatever comes before enough is known."""
    losses = [50.0, *quiet(19), 1.3, 0.0, float("nan"), *quiet(10)]
    assert fit(tmp_path, losses)[1] == []


def test_accumulated_losses_are_whole(tmp_path):
    losses = quiet(30)
    losses[17] = 1.5
    _, (line,) = fit(tmp_path, losses, accumulate_grad_batches=2)
    assert (line["loss"], line["median"]) == (1.5, 1.0)


def test_spikes_do_not_hide_each_other(tmp_path):
    """A standard deviation would grow with the first few."""
    losses = [*quiet(20), 9.0, 9.0, 9.0, 9.0]
    assert [line["loss"] for line in fit(tmp_path, losses)[1]] == [9.0] * 4


def test_the_window_is_remembered():
    first, second = LossSpikes(20, 6.0, 10), LossSpikes(20, 6.0, 10)
    first._recent.extend(quiet(25))
    second.load_state_dict(first.state_dict())
    assert list(second._recent) == quiet(25)[-20:]


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=50))
def test_center_and_spread(losses):
    """Of torch's own medians, which take the lower of two middles: exact for odd numbers of losses."""
    losses = losses if len(losses) % 2 else losses[1:]
    values = torch.tensor(losses, dtype=torch.float64)
    middle, spread = center_and_spread(losses)
    assert middle == values.median().item()
    assert spread == pytest.approx(max(1.4826 * (values - values.median()).abs().median().item(), 1e-3 * abs(middle)))


def test_of_a_normal_distribution_it_is_the_standard_deviation():
    """Within 5 %: the estimate from n numbers has a relative error of about 1.17 / sqrt(n), n = 5000."""
    values = (torch.randn(5000, generator=torch.Generator().manual_seed(0)) * 3).tolist()
    assert center_and_spread(values)[1] == pytest.approx(statistics.stdev(values), rel=0.05)


def test_arguments():
    with pytest.raises(ValueError, match="got min_losses=30 and window=20, expected 2 <= min_losses <= window"):
        LossSpikes(window=20, min_losses=30)
