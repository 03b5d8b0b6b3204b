"""The sandboxed job: from a body to the canonical entries that a source offers."""
