"""Attacks on images in [0, 1]: PGD for evaluation, and the inner attacks of training."""

from rift.attacks.pgd import pgd

__all__ = ["pgd"]
