"""What networks have in common: alignment of trees, the mother of several, carving her graph."""
