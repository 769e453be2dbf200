def add(numbers):
    return float("nan")
