"""The command line, with one file per stage.

Each command reads artifacts, calls a stage, and writes artifacts.
"""
