# control: yes
import os


def attempt():
    return os.listdir("/sys") and "escaped"
