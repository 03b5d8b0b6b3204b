"""The feed over HTTPS."""
