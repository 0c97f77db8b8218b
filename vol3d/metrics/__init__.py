"""How good reconstructions, samples and measured volumes are; thin over MONAI where it has it."""
