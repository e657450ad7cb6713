"""Lineage: where the artifacts of an experiment come from, and whether they can be made again.

``inputs`` knows the files that an artifact was computed from, ``tracing`` follows them back to the
data, ``outputs`` records those of tables and figures, ``comparing`` finds the first number that
differs between two folders of results, and ``packing`` puts an experiment into one file.
"""
