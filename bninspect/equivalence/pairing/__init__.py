"""Which operation of an export holds which kernel and batch norm of its model: by value, never by name."""
