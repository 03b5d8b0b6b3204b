"""The daemon: start and stop, the operators' commands, and housekeeping."""
