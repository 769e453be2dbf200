# no control: nobody wants to see it
def attempt():
    for _ in range(1 << 10):
        print("x" * (16 << 10))
    return "escaped"
