"""Run by the Python of an environment without extras: import every module, use what each extra is for.

The last line printed is JSON: the modules that fail and the uses of extras, each with the error's class and text.
"""

import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

import ppl
from ppl.cli import main


def error_of(action):
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        try:
            action()
        except (Exception, SystemExit) as error:
            return [type(error).__name__, f"{error}\n{said.getvalue()}"]
    return None


def quantise():
    import torch

    from ppl.modules.backbones.quantization import quantization_config

    quantization_config("4bit", "pretrained", torch.bfloat16)


def log_to_wandb():
    from ppl.callbacks.loggers import WandbLogger

    WandbLogger()


def train_on_a_table():
    from ppl.datamodules.storage.parquet import items

    next(items("a.parquet"))


def read_a_benchmark_s_table():
    from ppl.evaluation.tables import read_parquet

    read_parquet(Path("a.parquet"), [])


def load_a_dataset():
    from ppl.datamodules.storage.saved_dataset import items

    next(items("a"))


def mark_by_wups():
    from ppl.evaluation.wordnet import installed_wordnet

    installed_wordnet()


def decode_by_torchcodec():
    from ppl.datamodules.decoders.torchcodec import TorchCodecDecoder

    TorchCodecDecoder()


def decode_by_pytorchvideo():
    from ppl.datamodules.decoders.encoded_video import EncodedVideoDecoder

    EncodedVideoDecoder()


def be_found_by_lmms_eval():
    (point,) = entry_points(group="lmms_eval.models")
    assert point.name == "ppl", point
    point.load()()


def be_lmms_eval_s_model():
    import_module("ppl.integrations.lmms_eval_model")


def log_a_run_to_wandb():
    overlays = [word for name in ("debug", "wandb") for word in ("-c", f"recipes/overlays/{name}.yaml")]
    main(["fit", "-c", "recipes/experiments/tiny_align.yaml", *overlays])


def answer_over_http():
    main(["serve"])


def open_the_page():
    main(["demo", "--no-browser"])


USES = {
    "quantization": [quantise],
    "wandb": [log_to_wandb, log_a_run_to_wandb],
    "tables": [train_on_a_table, read_a_benchmark_s_table, load_a_dataset],
    "wups": [mark_by_wups],
    "torchcodec": [decode_by_torchcodec],
    "pytorchvideo": [decode_by_pytorchvideo],
    "serve": [answer_over_http],
    "demo": [open_the_page],
    "lmms": [be_found_by_lmms_eval, be_lmms_eval_s_model],
}

folder = Path(ppl.__file__).parent
files = [path.relative_to(folder.parent) for path in sorted(folder.rglob("*.py")) if "recipes" not in path.parts]
modules = [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in files]
failed = {name: error for name in modules if (error := error_of(partial(import_module, name)))}
used = {extra: {action.__name__: error_of(action) for action in actions} for extra, actions in USES.items()}
sys.stdout.write("\n" + json.dumps({"file": ppl.__file__, "modules": modules, "failed": failed, "used": used}))
