"""What outlives a session: who recalls it, and who takes note of it.

base  the protocol, and what a provider is told
"""
