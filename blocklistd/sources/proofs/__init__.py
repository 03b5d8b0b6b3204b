"""How a body proves its origin."""
