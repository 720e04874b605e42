"""Everything with weights or state: aligner, poolers, backbones, and the training loops around them."""
