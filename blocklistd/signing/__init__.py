"""Keys and TUF metadata."""
