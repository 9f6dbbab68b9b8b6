"""Scripts that train the demo models from scratch on drawn shapes."""
