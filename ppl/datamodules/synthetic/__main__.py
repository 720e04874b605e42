"""``python -m ppl.datamodules.synthetic FOLDER``: write the benchmark of recipes/eval/embedded_world.yaml."""

from __future__ import annotations

import argparse
import sys

from ppl.datamodules.synthetic.benchmark_files import write_benchmark


def main() -> None:
    """Write it where the command line says."""
    parser = argparse.ArgumentParser(prog="python -m ppl.datamodules.synthetic", description=__doc__)
    parser.add_argument("folder", nargs="?", default="runs/embedded_world", help="where to; the recipe's by default")
    parser.add_argument("--num-videos", type=int, default=200, help="with 11 questions each (default: %(default)s)")
    options = parser.parse_args()
    sys.stdout.write(f"{write_benchmark(options.folder, options.num_videos)}\n")


if __name__ == "__main__":
    main()
