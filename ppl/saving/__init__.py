"""How checkpoints reach the disk."""
