"""The dashboard's screens, one a file; each is loaded when it is first opened."""
