"""Evaluation of a model on test images: per-image outcomes, in float32."""
