"""The worker as the RunPod SDK runs it."""
