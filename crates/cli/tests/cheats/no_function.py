add_numbers = sum
