"""What a deployment is made from: the model list, platform templates and the demo models."""
