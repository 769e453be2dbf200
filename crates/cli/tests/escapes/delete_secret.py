# no control: it would delete what others read
import os


def attempt():
    os.remove(FOLDER + "/secret")
    return "escaped"
