"""Other programs that run models of ``ppl``."""
