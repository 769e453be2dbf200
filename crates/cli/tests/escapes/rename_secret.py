# control: yes
import os


def attempt():
    os.rename(FOLDER + "/secret", FOLDER + "/other")
    os.rename(FOLDER + "/other", FOLDER + "/secret")
    return "escaped"
