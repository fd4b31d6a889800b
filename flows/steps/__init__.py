"""What the stages of a run do: one module per stage, and the work that it is done on."""
