"""Exact nearest neighbours, and what is made of them: expansion, augmentation, another order."""
