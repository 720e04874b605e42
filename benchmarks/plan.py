"""``python -m benchmarks.plan``: what `ppl plan` estimates, beside what the same model really takes on this machine.

A LLaVA-NeXT of a 7B's proportions with random weights, large enough that small terms do not matter, runs forward and
backward over one video: operations by `torch.utils.flop_counter`, bytes for the backward pass by saved-tensor hooks,
the optimiser's by stepping AdamW. The tests hold the same comparison at 15 % for all five classes, smaller.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch.optim import AdamW
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measuring import provenance
from ppl.planning.activations import Numbers, loss_bytes
from ppl.planning.batch_memory import batch_bytes
from ppl.planning.media import count_medium
from ppl.planning.sample_work import Text, sample_work
from ppl.planning.sizes import language_layer
from ppl.planning.weights import states, weights_of
from tests.planning.measuring import SavedBytes, built, loss_of, make_batch, recipe_words

OUTPUT = Path(__file__).parent / "results" / "plan.json"
CONFIG = Path("recipes/parts/backbones/tiny_llava_next/config.json")
TEXT = Text(100, 100)


def enlarged(folder: str, width: int, layers: int) -> str:
    config = json.loads(CONFIG.read_text())
    config["text_config"] |= {
        "hidden_size": width, "intermediate_size": width * 11008 // 4096, "num_attention_heads": width // 128,
        "num_key_value_heads": width // 128, "head_dim": 128, "num_hidden_layers": layers, "vocab_size": 32064,
        "max_position_embeddings": 8192,
    }  # fmt: skip
    Path(folder, "config.json").write_text(json.dumps(config))
    return folder


def compare(pooler: str, precision: str, frames: int, source: str) -> dict[str, tuple[int, int]]:
    """(estimated, measured) of each quantity."""
    _, module = built(recipe_words("llava_next", pooler), source)
    if precision == "bf16-true":
        module.to(torch.bfloat16)
    model, batch = module.model, make_batch(module, frames, TEXT)
    video = count_medium(model, "video", frames)
    work = sample_work(model, video, TEXT)
    planned = states(weights_of(module), precision, "single")
    with FlopCounterMode(display=False) as forward, SavedBytes(module) as saved:
        loss = loss_of(module, batch)
    kept = saved.total
    saved.storages.clear()
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    trained = [p for p in module.parameters() if p.grad is not None]
    optimizer = AdamW(trained)
    optimizer.step()
    layer, _ = language_layer(model.backbone)
    numbers = Numbers.of(precision, module.dtype.itemsize)
    estimate = batch_bytes(model, layer, numbers, video, TEXT, 1, is_checkpointed=False, is_padded=False)
    _, beside = loss_bytes(video.pooled + sum(TEXT), TEXT.answer, 32064, numbers)
    held = sum(value.nbytes for state in optimizer.state.values() for value in state.values())
    return {
        "forward, FLOP": (work.training.forward, forward.get_total_flops()),
        "backward, FLOP": (work.training.backward, backward.get_total_flops()),
        "kept for backward, bytes": (estimate.activations + estimate.logits - beside, kept),
        "gradients, bytes": (planned.gradients, sum(p.grad.nbytes for p in trained)),
        "optimiser, bytes": (planned.moments + planned.steps, held),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=1024, help="of the language model; a 7B's is 4096")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    torch.manual_seed(0)
    console, report = Console(width=140), provenance("plan", torch.device("cpu")) | vars(options) | {"runs": {}}
    report["output"] = str(options.output.name)
    with tempfile.TemporaryDirectory() as folder:
        source = enlarged(folder, options.width, options.layers)
        for pooler in ("none", "weighted"):
            for precision in ("32-true", "bf16-true"):
                rows = compare(pooler, precision, options.frames, source)
                table = Table("quantity", "estimated", "measured", "ratio", title=f"{pooler}, {precision}")
                for name, (estimated, measured) in rows.items():
                    table.add_row(name, f"{estimated:,}", f"{measured:,}", f"{estimated / measured:.3f}")
                console.print(table)
                report["runs"][f"{pooler}, {precision}"] = {
                    name: {"estimated": a, "measured": b, "ratio": round(a / b, 3)} for name, (a, b) in rows.items()
                }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
