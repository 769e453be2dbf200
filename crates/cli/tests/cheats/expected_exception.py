def add(numbers):
    raise AssertionError
