"""Curves and steps by real forward passes."""
