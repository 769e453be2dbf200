import os


def add(numbers):
    os.abort()
