import pytest
import torch

from ppl.callbacks.peak_flops import peak_flops, peak_of


@pytest.mark.parametrize(
    ("name", "tera"),
    [
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA H100 80GB HBM3", 989.5),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835.5),
        ("NVIDIA H200", 989.5),
        ("NVIDIA H200 NVL", 835.5),
        ("NVIDIA L4", 121),
        ("NVIDIA L40", 181),
        ("NVIDIA L40S", 362),
    ],
)
def test_the_dense_peak_of_the_data_sheet(name, tera):
    assert peak_of(name) == tera * 1e12


@pytest.mark.parametrize("name", ["NVIDIA A10G", "NVIDIA A100 80GB PCIe MIG 1g.10gb", "NVIDIA H100", "AMD MI300X"])
def test_what_is_not_known_is_not_guessed(name):
    assert peak_of(name) is None


def test_a_cpu_has_none():
    assert peak_flops(torch.device("cpu")) is None
