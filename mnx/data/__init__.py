"""Data sets: where they are read from, how they are fitted to the members' input, and how batches are drawn."""
