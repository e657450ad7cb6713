"""Tables, figures and the overview of an experiment, made from its artifacts: no torch."""
