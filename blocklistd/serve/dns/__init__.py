"""The name server: messages, signatures, transfers and notifications."""
