"""`blocklistd doctor`: facts about an installation (collect.py), and the checks that judge them (checks.py)."""
