"""Response Policy Zones: which rules a list's entries are, and those compiled into DNS messages. Pure."""
