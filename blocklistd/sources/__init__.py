"""Sources of lists: bodies are fetched (transports), verified (proofs), and read (formats, intake)."""
