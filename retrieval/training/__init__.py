"""Fine-tuning: tuples, mining, losses, steps, checkpoints."""
