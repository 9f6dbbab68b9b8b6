"""Tiny checkpoints of real architectures, and the rules that judge what they draw."""
