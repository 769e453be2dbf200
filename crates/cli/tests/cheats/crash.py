import ctypes


def add(numbers):
    ctypes.string_at(0)
