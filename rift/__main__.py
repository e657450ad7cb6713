"""``python -m rift`` is the command ``rift``."""

from rift.commands.main import main

if __name__ == "__main__":
    main()
