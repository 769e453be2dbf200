# control: yes
import os


def attempt():
    return "escaped" if [os.pipe() for _ in range(100)] else "no"
