# control: yes
import os


def attempt():
    for name in "abc":
        with open(name, "wb") as file:
            file.write(bytes(8 << 20))
    for name in "abc":
        os.remove(name)
    return "escaped"
