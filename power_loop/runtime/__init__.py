"""Leaves around the kernel: each a protocol and a few small implementations."""
