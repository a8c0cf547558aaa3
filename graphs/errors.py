"""Errors of the graph layer: each says what is wrong, where (model, node) and what to do."""


class GraphError(Exception):
    """A model that cannot be read, analysed or changed as asked: the user's input, not a bug."""


class UnsupportedOp(GraphError):
    """A node whose op has no rule in `graphs/ops`."""


class NotPreserved(GraphError):
    """A growth whose result does not compute the mother's function within the tolerance."""
