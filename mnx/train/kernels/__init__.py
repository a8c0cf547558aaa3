"""Ops of a step whose CPU kernels are slow, as others that give the same numbers faster; one file per kind of op."""

from mnx.train.kernels.replacements import with_quick_kernels

__all__ = ["with_quick_kernels"]
