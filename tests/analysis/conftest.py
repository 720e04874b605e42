import json

import open_clip
import pytest
import torch

from tests.modules.tiny import CLIP_FOLDER


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory):
    """A random CLIP in open_clip's form, whose preprocessing is not the default and whose biases matter."""
    folder = tmp_path_factory.mktemp("clip")
    config = json.loads((CLIP_FOLDER / "open_clip_config.json").read_text())
    config["preprocess_cfg"] = {"mean": [0.3, 0.5, 0.6], "std": [0.2, 0.3, 0.25], "interpolation": "bilinear"}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(1)
    clip = open_clip.CLIP(**config["model_cfg"])
    with torch.no_grad():
        for parameter in clip.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    torch.save(clip.state_dict(), folder / "open_clip_pytorch_model.bin")
    return folder
