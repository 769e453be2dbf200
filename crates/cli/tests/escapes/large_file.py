# control: yes
import os


def attempt():
    with open("large", "wb") as file:
        for _ in range(20):
            file.write(bytes(1 << 20))
    size = os.path.getsize("large")
    os.remove("large")
    return "escaped" if size == 20 << 20 else "no"
