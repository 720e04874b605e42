"""``python -m benchmarks.world FOLDER``: write the embedded world's benchmark, for recipes/eval/embedded_world.yaml."""

from __future__ import annotations

import argparse

from ppl.datamodules.synthetic.benchmark_files import write_benchmark


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", default="runs/embedded_world", help="where to; the recipe's by default")
    parser.add_argument("--num-videos", type=int, default=200, help="with 11 questions each")
    options = parser.parse_args()
    print(write_benchmark(options.folder, options.num_videos))


if __name__ == "__main__":
    main()
