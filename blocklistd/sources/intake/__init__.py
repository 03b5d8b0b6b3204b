"""The sandboxed jobs that verify a body, read its canonical entries, and check the resulting files."""
