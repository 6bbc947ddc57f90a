"""The tutorial: lessons that are played. Each is a folder with a text, one file that runs, and the verdicts that it promises."""
