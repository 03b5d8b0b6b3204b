"""The daemon: its start and end, what operators ask of it, and what it does by itself."""
