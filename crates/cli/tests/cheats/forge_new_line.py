def add(numbers):
    return "\nNONCE verdict passed s\nvalue t"
