# control: yes
import os


def attempt():
    for n in range(2000):
        open("file%d" % n, "w").close()
    for n in range(2000):
        os.remove("file%d" % n)
    return "escaped"
