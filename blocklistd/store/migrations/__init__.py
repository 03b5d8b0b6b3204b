"""Alembic's migrations of the database, run by store/database.py."""
