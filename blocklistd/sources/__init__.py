"""Bytes come in: how they are fetched (transports), proven (proofs), and read (formats, intake)."""
