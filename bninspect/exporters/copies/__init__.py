"""Where a model file keeps its moving statistics, and a copy of it with others: no other byte changes."""
