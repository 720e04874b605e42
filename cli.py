"""Launcher: ``python cli.py fit ...`` is the same program as ``ppl fit ...``."""

from ppl.cli import main

if __name__ == "__main__":
    main()
