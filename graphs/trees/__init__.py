"""What a network is, without weights: its main flow, its tree of units, its channel groups."""
