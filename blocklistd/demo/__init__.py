"""The demo, and its data: reserved names only."""
