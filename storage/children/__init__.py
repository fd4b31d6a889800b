"""Work in processes of its own, which may hang, abort or be killed without harm."""
