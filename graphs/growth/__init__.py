"""Exact growth: growth maps, shares, kernel placement, insertions, and hatching a member from its mother."""
