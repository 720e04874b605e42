"""Options of every command that asks a model, and the model that they open."""

import argparse

import pytest
import torch

from ppl.cli import build_parser, main
from ppl.commands.media_arguments import add_model_arguments
from ppl.serving import launch
from ppl.serving.launch import open_model, open_session
from tests.modules.tiny import guided_model


class Loaded(torch.nn.Module):
    """What a checkpoint gives, as far as it matters here."""

    def __init__(self):
        super().__init__()
        self.model = guided_model()
        self.input_spec = self.model.input_spec
        self.conversation = {"num_frames": 4, "template": "plain_v1"}


@pytest.fixture
def loaded(monkeypatch):
    """Arguments of each load, and where the module is put."""
    calls = []

    def load(*words):
        module = Loaded()
        to = module.to
        calls.append([*words])
        module.to = lambda place: calls[-1].append(place) or to(place)
        return module

    monkeypatch.setattr(launch, "load", load)
    return calls


def model_options(*words):
    parser = argparse.ArgumentParser()
    add_model_arguments(parser)
    return parser.parse_args(words)


def test_which_model_from_which_base_on_which_device(loaded, clip):
    options = build_parser().parse_args(
        ["chat", str(clip), "--checkpoint=lora.ckpt", "--base=moved", "--device=cpu", "--num-frames=2", "--end=1"]
    )
    session = open_session(options)
    assert loaded == [["lora.ckpt", "moved", torch.device("cpu")]]
    assert len(session.frames) == 2
    assert max(session.media[0].decoded.times) < 1


def test_what_is_not_said_is_as_in_training_on_a_gpu_if_there_is_one(loaded, clip, monkeypatch):
    options = model_options()
    assert (options.base, options.device, options.num_frames, options.cache) == (None, "auto", None, None)
    opened = open_model("some.ckpt")
    assert loaded == [["some.ckpt", None, torch.device("cpu")]]
    assert (opened.processor.num_frames, opened.name) == (4, "some.ckpt")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert launch._place("auto") == torch.device("cuda")


@pytest.mark.parametrize("command", ["chat", "heatmap"])
@pytest.mark.parametrize("device", ["cdua", "cuda:7", "cpu:x"])
def test_a_device_that_is_not_there_is_told_before_anything_is_loaded(loaded, clip, command, device):
    with pytest.raises(SystemExit, match=rf"ppl {command}: got device '{device}', expected cpu, or cuda or cuda:1"):
        main([command, str(clip), "is it red ?", "--device", device])
    assert loaded == []


def test_a_conversation_may_begin_about_nothing(loaded):
    session = open_session(build_parser().parse_args(["chat"]))
    assert (session.media, session.num_visual_tokens) == ([], 0)
