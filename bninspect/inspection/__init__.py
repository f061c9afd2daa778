"""What a file says by itself, without any framework: descriptions, rules, two models side by side."""
