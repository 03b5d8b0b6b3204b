"""Each figure of the product beside its peer's, measured in one run: `make bench`, or `python -m bench NAME …`."""
