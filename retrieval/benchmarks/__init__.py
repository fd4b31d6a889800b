"""Evaluation protocols, each exactly as officially measured."""
