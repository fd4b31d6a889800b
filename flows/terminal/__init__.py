"""What a command says, how its failures read, how it ends."""
