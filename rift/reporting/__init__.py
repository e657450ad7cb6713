"""Tables and figures from artifacts alone: no torch."""
