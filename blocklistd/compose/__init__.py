"""What a list is made of: composed from what its sources assert, and guarded. Pure."""
