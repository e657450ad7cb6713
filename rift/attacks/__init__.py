"""Attacks: one small file each, all called as ``attack(model, images, labels, …)`` on images in [0, 1]."""

from rift.attacks.pgd import pgd

__all__ = ["pgd"]
