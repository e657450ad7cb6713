"""``python -m rift``: the command ``rift``."""

from rift.cli import main

main()
