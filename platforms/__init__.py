"""What starts workers and carries jobs to them, one folder per platform."""
