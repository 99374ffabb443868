"""Adds, changes and removes users in the files that people edit by hand."""
