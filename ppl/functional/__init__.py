"""Pure functions from tensors to tensors: the mathematics of the framework, without state or configuration."""

from __future__ import annotations
