"""What a training is made of and knows no options: losses, gradients, hard negatives, means of weights."""
