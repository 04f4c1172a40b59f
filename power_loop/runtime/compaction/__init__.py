"""How a view that has grown too large becomes smaller."""
