"""Where sessions live: the Store protocol and its implementations."""
