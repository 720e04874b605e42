"""Transformers models behind one adapter; one file per transformers class."""
