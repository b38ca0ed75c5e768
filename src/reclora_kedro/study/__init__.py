"""Studies: grids of settings, the memory of what their runs made, and what the results say."""
