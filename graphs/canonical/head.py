"""The head: a Softmax, LogSoftmax or Sigmoid over the classes at the end, peeled off so that outputs are logits."""

from __future__ import annotations

from mnx.graphs.model import Model, Node, Port

HEADS = frozenset({"Softmax", "LogSoftmax", "Sigmoid"})


def peel(model: Model) -> Model:
    """The model with the activation behind its class scores moved from the body to `Model.head`.

    Only behind outputs of shape [batch, classes], over the class axis, and where nothing else reads the result.
    """
    makers, readers = model.producers(), model.consumers()
    names = {port.name for port in model.outputs}
    head: list[Node] = []
    outputs: list[Port] = []
    for port in model.outputs:
        node = makers[port.name]
        logits = node.inputs[0]
        if _is_head(node, port) and port.name not in readers and logits in makers and logits not in names:
            head.append(node)
            port = Port(logits, port.dtype, port.shape)
        outputs.append(port)
    nodes = tuple(node for node in model.nodes if node not in head)
    return model.replace(nodes=nodes, outputs=tuple(outputs), head=tuple(head))


def _is_head(node: Node, port: Port) -> bool:
    if node.op not in HEADS or len(port.shape) != 1:
        return False
    return node.op == "Sigmoid" or node.integer("axis", -1) in (-1, 1)
