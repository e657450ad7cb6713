"""What a model does with test images: per-example outcomes, in float32."""
