"""An embeddable, durable agent kernel for async Python."""
