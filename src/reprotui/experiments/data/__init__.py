"""Data that ships with the package; SOURCE.md says where it comes from and under which licence."""
