"""What a subscriber runs. Imports nothing of the publisher but values and renderings."""
