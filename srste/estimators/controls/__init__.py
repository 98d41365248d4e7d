"""Estimators to compare others with."""
