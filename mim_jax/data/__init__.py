"""Image sources, transforms and the step-indexed pipeline."""
