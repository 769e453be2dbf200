# control: yes
import os


def attempt():
    with open("sparse", "wb") as file:
        file.truncate(1 << 30)
    os.remove("sparse")
    return "escaped"
