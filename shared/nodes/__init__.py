"""Nodes that run jobs in this worker's place: containers, and endpoints in RunPod's shape."""
