"""Ops of a step whose kernels are slow or missing, as others that give the same numbers; one file per kind of op."""

from mnx.train.kernels.replacements import with_cuda_kernels, with_quick_kernels

__all__ = ["with_cuda_kernels", "with_quick_kernels"]
