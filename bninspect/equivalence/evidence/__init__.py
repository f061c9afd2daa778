"""What is seen when both are run: each operation by itself, each stretch between two of them, and the outputs."""
