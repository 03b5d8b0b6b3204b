"""The ops listener: metrics, health, logs, and the schedule of recurring work."""
