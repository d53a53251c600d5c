"""One module per library that is compared. Each is imported in its own virtual environment, and nowhere else."""
