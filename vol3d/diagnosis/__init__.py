"""What `vol3d doctor` tries out: a training step, and DeepSpeed in a process of its own."""
