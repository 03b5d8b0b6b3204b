"""blocklistd: a trustworthy pipe from hotlines to those who block (README.md, then pipeline/pull.py)."""

__version__ = "0.7.0"
