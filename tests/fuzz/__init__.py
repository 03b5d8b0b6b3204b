"""Coverage-guided fuzzing (atheris) of each parser of bytes from outside, and the small corpus that it left.

`targets.py` has the parsers; `python -m tests.fuzz SECONDS [TARGET…]` runs them. tests/property/test_corpus.py runs
each file of the corpus in every test run.
"""
