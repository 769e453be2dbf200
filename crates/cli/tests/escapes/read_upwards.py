# control: yes
def attempt():
    return open("../" * 20 + FOLDER + "/secret").read() and "escaped"
