"""mnx trains ensembles of different neural networks fast, by the MotherNets method, on ONNX graphs."""

__version__ = "0.1.0"
