"""Studies: grids of settings, their results over several seeds, and figures and reports of them."""
