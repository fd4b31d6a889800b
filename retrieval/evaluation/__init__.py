"""How much better it is: configurations on the geometry benchmark, with intervals."""
