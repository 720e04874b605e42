"""Compared with lmms-eval, in its own environment: `make lmms-parity`."""
