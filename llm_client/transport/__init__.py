"""Carrying HTTP exchanges: `base` says what a transport is, the others are one each."""
