"""What a leaf's checksum is: the definition `rfp1-64`, and its numpy, jax and torch forms, equal to the bit.

A checksum is a 64-bit fingerprint of an array's bits. It decides equality inside a trace; it is not cryptographic
(content digests are, see `reprotui.integrity`). The forms live in modules of their own, so that importing one
loads one framework: `numpy_form`, `jax_form`, `torch_form`.
"""

from reprotui.checksum.definition import NAME, LeafSpec, lanes_to_checksum

__all__ = ["NAME", "LeafSpec", "lanes_to_checksum"]
