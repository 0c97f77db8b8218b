"""Noise and its removal: what training adds, what the network predicts, how a sample is made."""
