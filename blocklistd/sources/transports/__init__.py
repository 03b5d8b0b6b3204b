"""How a body comes from its hotline."""
