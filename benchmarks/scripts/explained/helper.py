"""What a library of somebody else's would be: two versions of it differ in one line."""


def scaled(x):
    return x * 0.5 + x * 0.25
