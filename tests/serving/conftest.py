import numpy as np
import pytest

from ppl.datamodules.processing import Processor
from ppl.datamodules.synthetic.world import random_scene, render
from ppl.datamodules.synthetic.writer import write_video
from tests.modules.tiny import guided_model


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """An H.264 file of eight frames, 192 pixels squared."""
    path = tmp_path_factory.mktemp("media") / "clip.mp4"
    write_video(path, render(random_scene(np.random.default_rng(0))))
    return path


@pytest.fixture
def model():
    return guided_model()


@pytest.fixture
def processor(model):
    return Processor(model.input_spec, num_frames=4)
