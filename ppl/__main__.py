"""``python -m ppl`` is the same program as ``ppl``."""

from ppl.cli import main

if __name__ == "__main__":
    main()
