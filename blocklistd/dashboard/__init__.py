"""The dashboard: facts of the daemon in, one HTML page out. Pure; daemon/dashboard.py reads the facts."""
