"""What a deployment starts from: catalogs, platform templates, demo models."""
