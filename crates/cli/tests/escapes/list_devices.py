# control: yes
import os


def attempt():
    return os.listdir("/dev") and "escaped"
