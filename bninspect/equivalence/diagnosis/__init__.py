"""What was done to a batch norm, or a kernel, whose numbers are nowhere in the export."""
