# control: yes
import os


def attempt():
    return os.listdir("/") and "escaped"
